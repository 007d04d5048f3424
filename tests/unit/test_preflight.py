from dataclasses import replace
from pathlib import Path

import pytest

from xpool.config import ModelConfig
from xpool_platform.errors import UserError, user_error_within
from xpool_platform.experiments import clips
from xpool_platform.output_dir import default_output_dir, resolve_output_dir
from xpool_platform.preflight import (
    prepare_output_dir,
    with_absolute_paths,
)


def test_paths_are_taken_from_the_folder_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XPOOL_OUTPUT_DIR", raising=False)
    (tmp_path / "weights.pt").touch()
    config = clips()
    config = replace(
        config,
        data=replace(config.data, root="videos"),
        model=ModelConfig(clip_name="tiny", clip_pretrained="weights.pt"),
    )
    absolute = with_absolute_paths(config)
    assert absolute.data.root == str(tmp_path / "videos")
    assert absolute.model.clip_pretrained == str(tmp_path / "weights.pt")
    assert absolute.output_dir == str(tmp_path / "outputs")
    tag = replace(config, model=ModelConfig(clip_pretrained="openai"))
    assert with_absolute_paths(tag).model.clip_pretrained == "openai"


def test_results_outlive_a_jobs_copy_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("XPOOL_OUTPUT_DIR", raising=False)
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert default_output_dir() == str(Path.home() / "xpool-outputs")
    monkeypatch.setenv("XPOOL_OUTPUT_DIR", "/elsewhere")
    assert default_output_dir() == "/elsewhere"


def test_an_output_folder_may_be_given_as_a_uri_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XPOOL_OUTPUT_DIR", "/elsewhere")
    assert resolve_output_dir() == Path("/elsewhere")
    assert resolve_output_dir(f"file://{tmp_path}/a b") == tmp_path / "a b"
    monkeypatch.setenv("XPOOL_OUTPUT_DIR", "gs://lab/out")
    with pytest.raises(UserError, match="output_dir 'gs://lab/out' is an object store"):
        resolve_output_dir()


def test_a_nearly_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("xpool_platform.preflight.MIN_FREE_BYTES", 2**62)
    with pytest.raises(UserError, match="MiB of space left"):
        prepare_output_dir(replace(clips(), output_dir=str(tmp_path)))


def test_the_users_part_of_a_failure_is_found_in_its_wrappings():
    mistake = UserError("the folder is empty")
    try:
        try:
            raise mistake
        except UserError as error:
            raise RuntimeError("a worker failed") from error
    except RuntimeError as error:
        wrapped = error
    assert user_error_within(wrapped) is mistake
    assert user_error_within(RuntimeError("a bug")) is None
    full = user_error_within(OSError(28, "No space left on device", "/out/frames"))
    assert "no space left" in str(full)
    assert "/out/frames" in str(full)
