"""Checkpoints: whole or not there, the best and the last kept, and training that goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from object_store import served_bucket
from xpool.model import build_model
from xpool.optim import build_optimizer, build_schedule
from xpool_platform.checkpoint import CheckpointKeeper, TrainingFile, load_checkpoint
from xpool_platform.checkpoint_files import (
    MANIFEST,
    TRAINING,
    WEIGHTS,
    CheckpointState,
    DamagedCheckpointError,
    check_whole,
    checkpoints_below,
    read_file,
)
from xpool_platform.errors import UserError
from xpool_platform.experiments import shapes
from xpool_platform.locations import files_below, remove_file, write_whole
from xpool_platform.train.last_checkpoint import last_whole_checkpoint
from xpool_platform.train.training_state import Learner, random_states

NOTHING = TrainingFile({}, {})


def keeper_of(folder: Path | str, **kept: int) -> CheckpointKeeper:
    return CheckpointKeeper(str(folder), **kept)


def fill(folder: Path, scores: dict[int, float | None], **kept: int) -> list[list[int]]:
    """The steps that are there after each checkpoint."""
    config = shapes()
    model = build_model(config.model, config.loss)
    keeper, there = keeper_of(folder, **kept), []
    for step, score in scores.items():
        keeper.add(model, config, CheckpointState(step=step, score=score), NOTHING)
        keeper.wait()
        assert sorted(keeper.states) == list(checkpoints_below(str(folder)))
        there.append(sorted(keeper.states))
    return there


def test_a_checkpoint_comes_back_whole(tmp_path):
    torch.manual_seed(0)
    config = shapes()
    model = build_model(config.model, config.loss)
    keeper = keeper_of(tmp_path)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    keeper.add(model, config, CheckpointState(step=7, score=12.5), NOTHING)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)  # training does not wait until it is written
    keeper.wait()
    loaded, loaded_config, state = load_checkpoint(keeper.of_step(7))
    assert loaded_config == config
    assert state == CheckpointState(step=7, score=12.5)
    assert not loaded.training
    for name, value in loaded.state_dict().items():
        assert torch.equal(weights[name], value)
    assert [path.name for path in tmp_path.iterdir()] == ["step_0000007"]


def test_the_last_and_the_best_are_kept(tmp_path):
    scores = {1: 10.0, 2: 30.0, 3: 20.0, 4: 30.0, 5: None, 6: 40.0}
    assert fill(tmp_path / "one", scores) == [[1], [2], [2, 3], [2, 4], [2, 5], [6]]
    assert fill(tmp_path / "more", scores, keep_last=2, keep_best=2)[-1] == [2, 5, 6]
    again = keeper_of(tmp_path / "more")
    assert (again.best, again.last) == (6, 6)


@pytest.mark.parametrize("name", [WEIGHTS, TRAINING, "state.json", "config.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_damage_is_found_and_the_one_before_taken(tmp_path, name, damage):
    fill(tmp_path, {1: 10.0, 2: 5.0, 3: 1.0}, keep_last=3)
    path = tmp_path / "step_0000003" / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes({"flipped": content, "cut": content[:-3], "empty": b""}[damage])
    with pytest.raises(DamagedCheckpointError, match=r"step_0000003"):
        check_whole(str(path.parent))
    found = last_whole_checkpoint(str(tmp_path))
    assert found.step == 2
    assert len(found.damaged) == 1
    (tmp_path / "step_0000004").mkdir()
    (tmp_path / "step_0000004" / WEIGHTS).write_bytes(b"of a job that was killed")
    keeper_of(tmp_path).tidy(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_0000001", "step_0000002"]
    (tmp_path / "step_0000002" / MANIFEST).unlink()  # as if it had never been finished
    (tmp_path / "step_0000001" / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole: .*step_0000001"):
        last_whole_checkpoint(str(tmp_path))


def test_no_checkpoint_at_all_is_a_beginning(tmp_path):
    assert last_whole_checkpoint(str(tmp_path / "none")).step == 0


WRITER = """
import sys
from test_checkpoint import fill
fill(__import__("pathlib").Path(sys.argv[1]), {step: None for step in range(1, 2000)}, keep_last=3)
"""


def test_a_writer_that_is_killed_leaves_whole_checkpoints_only(tmp_path):
    rng = random.Random(5)
    for run in range(8):
        folder = tmp_path / str(run)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        while not list(folder.glob("step_*")):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        for location in checkpoints_below(str(folder)).values():
            check_whole(location)


def learner_of(num_steps: int) -> Learner:
    config = shapes()
    config = replace(config, model=replace(config.model, dropout=0.5))
    model = build_model(config.model, config.loss)
    optimizer = build_optimizer(model, config.optim)
    schedule = build_schedule(optimizer, config.optim, num_steps)
    return Learner(model=model, optimizer=optimizer, schedule=schedule)


def train(learner: Learner, steps: range) -> list[float]:
    """Losses of a pooling that draws dropout, on data that the step decides."""
    losses = []
    learner.model.train()
    for step in steps:
        data = torch.Generator().manual_seed(step)
        texts = torch.randn(4, learner.model.embed_dim, generator=data)
        frames = torch.randn(4, 3, learner.model.embed_dim, generator=data)
        loss = F.mse_loss(learner.model.pooling(texts, frames), texts.expand(4, 4, -1))
        learner.optimizer.zero_grad()
        loss.backward()
        learner.optimizer.step()
        learner.schedule.step()
        losses.append(loss.item())
    return losses


@pytest.fixture(scope="module")
def s3():
    with served_bucket("checkpoints") as uri:
        yield uri


@pytest.fixture(params=["on a disk", "in S3"])
def place(request, tmp_path) -> str:
    if request.param == "on a disk":
        return str(tmp_path)
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def test_a_checkpoint_gets_its_score_later(place):
    keeper = keeper_of(place, keep_last=1, keep_best=1)
    config = shapes()
    model = build_model(config.model, config.loss)
    keeper.add(model, config, CheckpointState(step=1, evaluation_due=True), NOTHING)
    scored = CheckpointState(step=1, score=3.0, recalls=[3.0])
    keeper.score(scored)
    keeper.add(model, config, CheckpointState(step=2, recalls=[3.0]), NOTHING)
    keeper.wait()
    assert (keeper.best, keeper.last) == (1, 2)
    assert check_whole(keeper.of_step(1)) == scored
    assert set(checkpoints_below(keeper.location)) == {1, 2}


def test_the_newest_whole_checkpoint_is_found_wherever_it_lies(place):
    keeper = keeper_of(place, keep_last=3)
    config = shapes()
    model = build_model(config.model, config.loss)
    for step in (1, 2, 3):
        keeper.add(model, config, CheckpointState(step=step), NOTHING)
    keeper.wait()
    write_whole(f"{keeper.of_step(3)}/{WEIGHTS}", b"cut short")
    remove_file(f"{keeper.of_step(2)}/{MANIFEST}")
    found = last_whole_checkpoint(place)
    assert found.step == 1
    assert len(found.damaged) == 1
    again = keeper_of(place)
    again.tidy(1)
    assert list(checkpoints_below(place)) == [1]
    assert {Path(info.path).parent.name for info in files_below(place)} == {"step_0000001"}
    load_checkpoint(found.location)


def test_training_goes_on_as_if_it_had_not_stopped(tmp_path):
    torch.manual_seed(3)
    whole = learner_of(40)
    first = train(whole, range(15))
    config = shapes()
    keeper = keeper_of(tmp_path)
    taken = whole.taken(random_states(torch.device("cpu")))
    keeper.add(whole.model, config, CheckpointState(step=15, score=None), taken)
    keeper.wait()
    rest = train(whole, range(15, 40))
    torch.manual_seed(99)
    later = learner_of(40)
    model, _, _ = load_checkpoint(keeper.of_step(15))
    later.model.load_state_dict(model.state_dict())
    later.put_back(read_file(keeper.of_step(15), TRAINING), rank=0, seed=0)
    assert train(later, range(15, 40)) == rest
    assert first[0] > first[-1]


def test_another_learning_rate_goes_on_where_the_schedule_is(tmp_path):
    whole = learner_of(40)
    train(whole, range(15))
    keeper = keeper_of(tmp_path)
    taken = whole.taken(random_states(torch.device("cpu")))
    keeper.add(whole.model, shapes(), CheckpointState(step=15, score=None), taken)
    keeper.wait()
    faster = learner_of(40)
    for group in faster.optimizer.param_groups:
        group["lr"] *= 3
        group["initial_lr"] *= 3
    faster.schedule.base_lrs = [3 * rate for rate in faster.schedule.base_lrs]
    faster.put_back(read_file(keeper.of_step(15), TRAINING), rank=0, seed=0)
    rates = [group["lr"] for group in whole.optimizer.param_groups]
    wanted = [pytest.approx(3 * rate) for rate in rates]
    assert [group["lr"] for group in faster.optimizer.param_groups] == wanted
    train(whole, range(15, 20))
    train(faster, range(15, 20))
    rates = [group["lr"] for group in whole.optimizer.param_groups]
    wanted = [pytest.approx(3 * rate) for rate in rates]
    assert [group["lr"] for group in faster.optimizer.param_groups] == wanted


def test_another_kind_of_training_cannot_go_on(tmp_path):
    learner = learner_of(4)
    taken = learner.taken(random_states(torch.device("cpu")))
    keeper = keeper_of(tmp_path)
    keeper.add(learner.model, shapes(), CheckpointState(step=1, score=None), taken)
    keeper.wait()
    config = shapes()
    model = build_model(config.model, config.loss)
    model.clip.requires_grad_(False)
    optimizer = build_optimizer(model, config.optim)
    frozen = Learner(
        model=model, optimizer=optimizer, schedule=build_schedule(optimizer, config.optim, 4)
    )
    with pytest.raises(UserError, match="other parameters learn"):
        frozen.put_back(read_file(keeper.of_step(1), TRAINING), rank=0, seed=0)
