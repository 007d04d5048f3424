"""Several workers compute what one would: losses, gradients, trained weights, embeddings."""

import os
import socket
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from xpool.clip import build_tokenizer
from xpool.config import LossConfig, ModelConfig, OptimConfig
from xpool.loss import contrastive_loss
from xpool.model import build_model
from xpool.optim import build_optimizer
from xpool.similarity import similarity_matrix
from xpool_platform.data.frame_store import write_frames
from xpool_platform.data.plan import worker_bounds
from xpool_platform.data.video import EncodedVideo
from xpool_platform.evaluate.encode import encode_split
from xpool_platform.train.collectives import gather_rows, sum_gradients
from xpool_platform.train.step import backward_in_slices, global_batch_loss

CAPTIONS = [f"a {colour} thing" for colour in ("red", "green", "blue", "white", "black")]


def batch(num_pairs: int) -> tuple[torch.Tensor, list[str]]:
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (num_pairs, 3, 3, 48, 48), generator=generator)
    return frames.to(torch.uint8), CAPTIONS[:num_pairs]


def train(rank: int, world_size: int, pooling: str, num_pairs: int, num_steps: int):
    """Losses of some steps and the weights after them."""
    torch.set_num_threads(1)
    torch.manual_seed(7)
    config = ModelConfig(clip_name="tiny", pooling=pooling, dropout=0.0)
    model = build_model(config, LossConfig(temperature=0.1))
    tokenizer = build_tokenizer(config)
    optimizer = build_optimizer(model, OptimConfig(clip_lr=1e-3, pooling_lr=1e-3))
    frames, captions = batch(num_pairs)
    first, stop = worker_bounds(num_pairs, rank, world_size)
    tokens = tokenizer(captions)[first:stop]
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = global_batch_loss(
            model,
            tokens,
            frames[first:stop],
            num_pairs=num_pairs,
            rank=rank,
            world_size=world_size,
        )
        loss.backward()
        losses.append(sum_gradients(model.parameters(), loss.reshape(1)).item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return losses, model.state_dict()


def in_process_group(rank: int, world_size: int, port: int, out: str, work, *arguments) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    torch.save(work(rank, world_size, *arguments), f"{out}/{rank}.pt")
    dist.destroy_process_group()


def by_workers(tmp_path: Path, world_size: int, work, *arguments) -> list:
    """What each rank's work gives."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(in_process_group, (world_size, port, str(tmp_path), work, *arguments), world_size)
    return [torch.load(tmp_path / f"{rank}.pt") for rank in range(world_size)]


@pytest.mark.parametrize(
    ("pooling", "world_size", "num_pairs"),
    [("xpool", 2, 5), ("xpool", 3, 5), ("xpool", 3, 2), ("mean", 2, 5)],
)
def test_workers_train_as_one(tmp_path, pooling, world_size, num_pairs):
    expected_losses, expected_weights = train(0, 1, pooling, num_pairs, 5)
    assert expected_losses[-1] < expected_losses[0]
    for losses, weights in by_workers(tmp_path, world_size, train, pooling, num_pairs, 5):
        np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
        for name, value in expected_weights.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_thirty_steps_are_the_same_on_one_two_and_four_workers(tmp_path):
    expected, _ = train(0, 1, "xpool", 5, 30)
    for world_size in (2, 4):
        folder = tmp_path / str(world_size)
        folder.mkdir()
        for losses, _ in by_workers(folder, world_size, train, "xpool", 5, 30):
            np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)


def gradients(dropout: float, micro_batch_size: int | None) -> tuple[float, dict]:
    """The loss of a batch of five, and the gradient of every parameter."""
    torch.manual_seed(7)
    config = ModelConfig(clip_name="tiny", dropout=dropout)
    model = build_model(config, LossConfig(temperature=0.1)).train()
    frames, captions = batch(5)
    tokens = build_tokenizer(config)(captions)
    share = {"num_pairs": 5, "rank": 0, "world_size": 1}
    if micro_batch_size is None:
        loss = global_batch_loss(model, tokens, frames, **share)
        loss.backward()
    else:
        loss = backward_in_slices(model, tokens, frames, micro_batch_size=micro_batch_size, **share)
    return loss.item(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_slices_of_a_batch_give_its_gradients(dropout, micro_batch_size):
    expected_loss, expected = gradients(dropout, None)
    loss, got = gradients(dropout, micro_batch_size)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, grad in expected.items():
        torch.testing.assert_close(got[name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_one_worker_computes_the_loss_of_the_paper():
    config = ModelConfig(clip_name="tiny", dropout=0.0)
    model = build_model(config)
    frames, captions = batch(4)
    tokens = build_tokenizer(config)(captions)
    text, video = model.encode_text(tokens), model.encode_frames(frames)
    expected = contrastive_loss(
        similarity_matrix(text, model.pooling(text, video)), model.logit_scale
    )
    loss = global_batch_loss(model, tokens, frames, num_pairs=4, rank=0, world_size=1)
    torch.testing.assert_close(loss, expected)


def encode(rank: int, world_size: int, videos: pa.Table):
    torch.set_num_threads(1)
    torch.manual_seed(7)
    config = ModelConfig(clip_name="tiny")
    embeds = encode_split(
        build_model(config),
        build_tokenizer(config),
        videos,
        num_frames=3,
        batch_size=2,
        device=torch.device("cpu"),
        rank=rank,
        world_size=world_size,
        gather_rows=gather_rows,
    )
    return embeds.text_embeds, embeds.frame_embeds, torch.from_numpy(embeds.video_of_text)


def test_workers_encode_as_one(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(5):
        uri = str(tmp_path / f"{i}.parquet")
        frames = rng.integers(0, 256, (4, 48, 60, 3), dtype=np.uint8)
        jpegs = [simplejpeg.encode_jpeg(frame) for frame in frames]
        write_frames(uri, EncodedVideo(jpegs=jpegs, times_s=np.arange(4.0), duration_s=4.0))
        rows.append({"frames_uri": uri, "num_frames": 4, "captions": CAPTIONS[: i % 3 + 1]})
    videos = pa.Table.from_pylist(rows)
    expected = encode(0, 1, videos)
    assert expected[0].shape == (9, 128)
    assert expected[1].shape == (5, 3, 128)
    assert expected[2].tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4]
    for got in by_workers(tmp_path, 3, encode, videos):
        for value, right in zip(got, expected, strict=True):
            torch.testing.assert_close(value, right, rtol=1e-5, atol=1e-5)
