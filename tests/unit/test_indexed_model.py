"""The model of an index: what it goes by, and its copy, which has to be the same model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xpool.config import ModelConfig
from xpool.model import build_model
from xpool.scoring import score_matrix
from xpool_platform.checkpoint_files import (
    CONFIG,
    MANIFEST,
    STATE,
    WEIGHTS,
    DamagedCheckpointError,
    read_file,
    write_files,
)
from xpool_platform.config import ExperimentConfig, TrackingConfig
from xpool_platform.errors import UserError
from xpool_platform.experiments import shapes
from xpool_platform.search.index_files import MODELS
from xpool_platform.search.index_writer import new_version
from xpool_platform.search.indexed_model import (
    fingerprint_of,
    load_indexed_model,
    save_indexed_model,
    with_settings_of,
)

TINY = ModelConfig(clip_name="tiny")


def config_of(model: ModelConfig = TINY) -> ExperimentConfig:
    """With all that should not leave this machine."""
    return replace(
        shapes(),
        model=replace(model, clip_pretrained="/mine/clip.pt"),
        output_dir="/mine/outputs",
        data=replace(
            shapes().data, root="/mine/videos", annotations="/mine/a.csv", frames_dir="s3://mine/f"
        ),
        train=replace(shapes().train, checkpoints_dir="/mine/checkpoints"),
        tracking=TrackingConfig(uri="http://name:secret@server"),
    )


def made(config: ExperimentConfig, seed: int = 0):
    torch.manual_seed(seed)
    return build_model(config.model, load_pretrained=False).eval()


@pytest.fixture(scope="module")
def model():
    return made(config_of())


def test_every_number_of_the_weights_decides(model):
    config = config_of()
    first = fingerprint_of(model, config)
    assert fingerprint_of(model, config) == first
    assert fingerprint_of(made(config), config) == first
    assert fingerprint_of(made(config, seed=1), config) != first
    seen = {first}
    state = model.state_dict()
    for tensor in state.values():
        bits = tensor.detach().view(torch.int32)
        bits.view(-1)[-1] ^= 1  # the last number, by its last bit
        seen.add(fingerprint_of(model, config))
        bits.view(-1)[-1] ^= 1
    assert len(seen) == 1 + len(state)
    assert fingerprint_of(model, config) == first


def with_model(**changes) -> Callable[[ExperimentConfig], ExperimentConfig]:
    return lambda config: replace(config, model=replace(config.model, **changes))


def with_data(**changes) -> Callable[[ExperimentConfig], ExperimentConfig]:
    return lambda config: replace(config, data=replace(config.data, **changes))


@pytest.mark.parametrize(
    "change",
    [
        with_model(clip_name="ViT-B-32"),
        with_model(quick_gelu=True),
        with_model(num_heads=2),
        with_model(pooling="mean"),
        with_model(pooling="topk"),
        with_model(pooling="topk", top_k=5),
        with_model(pooling="softmax"),
        with_model(pooling="softmax", softmax_temperature=0.5),
        with_data(num_frames=11),
        with_data(num_frames=33),
        with_data(frames_per_second=1.5),
        with_data(short_side=96),
        with_data(jpeg_quality=50),
        with_data(decoder="decord"),
    ],
)
def test_pooling_and_frames_decide(model, change):
    config = config_of()
    assert fingerprint_of(model, change(config)) != fingerprint_of(model, config)


def test_all_of_these_differ(model):
    config = config_of()
    changes = [with_model(pooling=p) for p in ("xpool", "mean", "topk", "softmax")]
    assert len({fingerprint_of(model, change(config)) for change in changes}) == 4


@pytest.mark.parametrize(
    "change",
    [
        with_model(dropout=0.0),
        with_model(clip_pretrained="/another/clip.pt"),
        with_data(root="/another", annotations="b.csv", frames_dir="/frames", source="msrvtt"),
        with_data(augment=False, cache="none", decode_cpus=3.0, max_bad_fraction=0.5),
        lambda config: replace(config, name="another", output_dir="/another", run_name="run"),
        lambda config: replace(config, tracking=TrackingConfig(uri="sqlite:///another.db")),
        lambda config: replace(config, train=replace(config.train, num_workers=1, batch_size=5)),
        lambda config: replace(config, optim=replace(config.optim, clip_lr=1.0)),
    ],
)
def test_places_and_training_do_not_decide(model, change):
    config = config_of()
    assert change(config) != config
    assert fingerprint_of(model, change(config)) == fingerprint_of(model, config)


@pytest.mark.parametrize(
    "tiny",
    [TINY, replace(TINY, num_heads=4), replace(TINY, pooling="topk", top_k=2)],
    ids=["1 head", "4 heads", "topk"],
)
def test_a_copy_is_the_same_model_and_scores_alike(tmp_path, tiny):
    config = config_of(tiny)
    model = made(config)
    for parameter in model.pooling.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    fingerprint = fingerprint_of(model, config)
    save_indexed_model(tmp_path / "copy", model, config)
    copy, its = load_indexed_model(tmp_path / "copy", fingerprint)
    assert not copy.training
    assert fingerprint_of(copy, its) == fingerprint
    size = model.image_size
    video = torch.randint(256, (3, 4, 3, size, size), dtype=torch.uint8)
    tokens = torch.randint(1, 500, (5, 32))
    with torch.no_grad():
        scores = [
            score_matrix(m.pooling, m.encode_text(tokens), m.encode_frames(video))
            for m in (model, copy)
        ]
    assert torch.equal(*scores)
    asked = with_settings_of(ExperimentConfig(), its)
    assert fingerprint_of(copy, asked) == fingerprint


def test_no_place_of_this_machine_is_in_the_copy(tmp_path, model):
    save_indexed_model(tmp_path / "copy", model, config_of())
    names = {WEIGHTS, CONFIG, STATE, MANIFEST}
    assert {path.name for path in (tmp_path / "copy").iterdir()} == names
    for path in (tmp_path / "copy").iterdir():
        content = path.read_bytes()
        for secret in (b"mine", b"secret", b"server", bytes(tmp_path)):
            assert secret not in content


@pytest.fixture
def copy(tmp_path, model) -> Path:
    save_indexed_model(tmp_path / "copy", model, config_of())
    return tmp_path / "copy"


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, STATE])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_flipped_bit_in_the_copy_is_found(copy, model, name, share):
    content = bytearray((copy / name).read_bytes())
    content[int(share * (len(content) - 1))] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=f"{name} is not what was written"):
        load_indexed_model(copy, fingerprint_of(model, config_of()))


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, STATE, MANIFEST])
def test_a_copy_that_is_not_whole_is_said(copy, model, name):
    (copy / name).unlink()
    with pytest.raises(DamagedCheckpointError, match="is no whole checkpoint"):
        load_indexed_model(copy, fingerprint_of(model, config_of()))


def test_another_model_in_its_place_is_refused(copy, model):
    fingerprint = fingerprint_of(model, config_of())
    other = made(config_of(), seed=9)
    save_indexed_model(copy, other, config_of())  # whole, with hashes of its own
    with pytest.raises(UserError, match="is not the model that the index was made with"):
        load_indexed_model(copy, fingerprint)
    save_indexed_model(copy, model, with_data(num_frames=5)(config_of()))
    with pytest.raises(UserError, match="is not the model that the index was made with"):
        load_indexed_model(copy, fingerprint)


def test_a_config_of_another_version_is_said(copy, model):
    files = {name: read_file(str(copy), name).to_pybytes() for name in (WEIGHTS, CONFIG, STATE)}
    files[CONFIG] = files[CONFIG].replace(b'"num_frames"', b'"frame_count"')
    write_files(str(copy), files)
    with pytest.raises(UserError, match="is not a config of this version"):
        load_indexed_model(copy, fingerprint_of(model, config_of()))


@pytest.mark.parametrize("left", [[], [WEIGHTS], [WEIGHTS, CONFIG, STATE]])
def test_a_copy_that_a_killed_job_began_is_written_again(tmp_path, model, left):
    config = config_of()
    fingerprint = fingerprint_of(model, config)
    for name in (fingerprint, f"{fingerprint}.part"):
        (tmp_path / MODELS / name).mkdir(parents=True)
        for file in left:
            (tmp_path / MODELS / name / file).write_bytes(b"half")
    version = new_version(tmp_path, model, config, fingerprint, "a run")
    assert (version.version, version.segments, version.num_videos) == (0, [], 0)
    copy, _ = load_indexed_model(tmp_path / MODELS / version.model, version.fingerprint)
    assert fingerprint_of(copy, config) == fingerprint
    assert [path.name for path in (tmp_path / MODELS).iterdir()] == [fingerprint]
    written = (tmp_path / MODELS / fingerprint / MANIFEST).stat().st_mtime_ns
    new_version(tmp_path, model, config, fingerprint, "a run")
    assert (tmp_path / MODELS / fingerprint / MANIFEST).stat().st_mtime_ns == written
