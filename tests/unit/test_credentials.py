"""Passwords and keys in a config are refused, without being repeated."""

from dataclasses import replace

import pytest

from xpool_platform.checkpoint_files import find_checkpoint
from xpool_platform.config import EvaluationConfig, TrackingConfig
from xpool_platform.credentials import holds_credentials, refuse_credentials
from xpool_platform.errors import UserError
from xpool_platform.experiments import clips
from xpool_platform.output_dir import resolve_output_dir
from xpool_platform.preflight import with_absolute_paths
from xpool_platform.result_files import find_ranks

SECRET = "correct-horse"


@pytest.mark.parametrize(
    "location",
    [
        f"s3://AKIA:{SECRET}@bucket/videos",
        f"s3://AKIA@bucket/{SECRET}",
        f"s3://bucket/videos?secret_key={SECRET}",
        f"s3://bucket/videos?region=x&session_token={SECRET}",
        f"http://me:{SECRET}@mlflow.example:5000",
        f"postgresql+psycopg2://me:{SECRET}@db/mlflow",
        f"https://store.example/x?X-Amz-Signature={SECRET}",
        f"https://store.example/x?sig={SECRET}",
        f"HTTPS://me:{SECRET}@mlflow.example",
        f" https://me:{SECRET}@mlflow.example",
        f"s3://bucket/videos#secret_key={SECRET}",
        f"https://[me:{SECRET}",
    ],
)
def test_a_secret_in_any_field_is_named_and_not_repeated(location):
    config = clips()
    fields = {
        "data.root": replace(config, data=replace(config.data, root=location)),
        "train.checkpoints_dir": replace(
            config, train=replace(config.train, checkpoints_dir=location)
        ),
        "tracking.uri": replace(config, tracking=TrackingConfig(uri=location)),
        "output_dir": replace(config, output_dir=location),
        "checkpoint": EvaluationConfig(checkpoint=location),
    }
    assert holds_credentials(location)
    for field, given in fields.items():
        with pytest.raises(UserError, match=f"^{field} is a .*in the environment") as caught:
            with_absolute_paths(given)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    [
        *("s3://bucket/videos", "gs://bucket/a@b.mp4", "/home/me@lab/videos", "user@host"),
        *("http://127.0.0.1:5000", "sqlite:////home/a@b/mlflow.db", "postgresql://db/mlflow"),
        *("s3://bucket/x?region=eu-west-1", "", "monkey/key=1"),
    ],
)
def test_other_places_are_taken(location):
    assert not holds_credentials(location)


def test_the_environment_gives_what_is_left_out_and_is_held_to_the_same(monkeypatch):
    monkeypatch.setenv("XPOOL_FRAMES_DIR", "s3://lab/frames/")
    monkeypatch.setenv("XPOOL_CHECKPOINTS_DIR", "file:///shared/runs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    config = with_absolute_paths(clips())
    assert config.data.frames_dir == "s3://lab/frames"
    assert config.train.checkpoints_dir == "/shared/runs"
    assert config.tracking.uri == "http://mlflow:5000"
    given = replace(config, tracking=TrackingConfig(uri="sqlite:////own.db"))
    assert with_absolute_paths(given).tracking.uri == "sqlite:////own.db"
    assert with_absolute_paths(clips(), goes_on=True).tracking.uri == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@mlflow:5000")
    with pytest.raises(UserError, match=r"^tracking\.uri is a http URI with") as caught:
        with_absolute_paths(clips())
    assert SECRET not in str(caught.value)


def test_jobs_that_look_for_a_place_before_they_have_a_config_refuse_it_too(tmp_path):
    place = f"s3://AKIA:{SECRET}@bucket/runs"
    for look in (
        lambda: find_checkpoint(place, tmp_path),
        lambda: find_ranks(place, tmp_path),
        lambda: resolve_output_dir(place),
        lambda: refuse_credentials({"runs": ["one", place]}),
    ):
        with pytest.raises(UserError, match="is a s3 URI with a user name") as caught:
            look()
        assert SECRET not in str(caught.value)


def test_an_object_store_is_no_output_folder():
    with pytest.raises(UserError, match=r"output_dir 's3://b/x' is an object store, and journals"):
        with_absolute_paths(replace(clips(), output_dir="s3://b/x"))
