"""Training batches from a frame store: what a row holds, whoever loads it and whenever."""

import dataclasses
from pathlib import Path

import numpy as np
import psutil
import pytest
import simplejpeg
import torch

from xpool_platform.data.batches import load_row, worker_batches
from xpool_platform.data.embedding_cache import read_embeds, write_embeds
from xpool_platform.data.feed import Feed
from xpool_platform.data.frame_store import frames_uri, write_frames
from xpool_platform.data.video import EncodedVideo
from xpool_platform.errors import UserError

NUM_FRAMES, SIZE = 4, 32


@pytest.fixture(scope="module")
def feed(tmp_path_factory) -> Feed:
    """Seven videos of one to four captions; a video's frames are all alike but for their red."""
    store = str(tmp_path_factory.mktemp("store"))
    rng = np.random.default_rng(0)
    uris, counts = [], [1, 3, 5, 9, 17, 33, 40]
    for i, num_frames in enumerate(counts):
        picture = np.kron(rng.integers(0, 256, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        jpegs = []
        for red in range(num_frames):
            picture[..., 0] = 6 * red
            jpegs.append(simplejpeg.encode_jpeg(picture, quality=95, colorsubsampling="444"))
        uris.append(frames_uri(store, f"{i:02d}"))
        times = np.arange(num_frames) / 3
        write_frames(uris[-1], EncodedVideo(jpegs=jpegs, times_s=times, duration_s=num_frames / 3))
    return Feed(
        frames_uris=uris,
        text_embeds_uris=None,
        num_available=counts,
        captions=[[f"{i}-{j}" for j in range(i % 4 + 1)] for i in range(7)],
        batch_size=5,
        num_frames=NUM_FRAMES,
        image_size=SIZE,
        augment=True,
        seed=3,
        world_size=1,
        num_steps=12,
    )


def batch(feed: Feed, step: int, rank: int = 0):
    row = load_row(feed, feed.plan(), range(step, step + 1), rank)
    (loaded,) = worker_batches(iter([row]), rank, feed.num_frames, first_step=step)
    return loaded


def test_a_batch_is_the_same_for_any_number_of_workers_and_every_time(feed):
    for step in range(8):
        whole = batch(feed, step)
        assert whole.frames.shape == (len(whole.captions), NUM_FRAMES, 3, SIZE, SIZE)
        assert whole.frames.dtype == torch.uint8
        assert torch.equal(batch(feed, step).frames, whole.frames)
        for world_size in (2, 3):
            shared = dataclasses.replace(feed, world_size=world_size)
            parts = [batch(shared, step, rank) for rank in range(world_size)]
            assert [text for part in parts for text in part.captions] == whole.captions
            assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)


def test_a_row_of_steps_holds_what_their_rows_hold(feed):
    for rank, world_size in ((0, 1), (0, 3), (2, 3)):
        shared = dataclasses.replace(feed, world_size=world_size)
        row = load_row(shared, shared.plan(), range(2, 9), rank)
        for loaded in worker_batches(iter([row]), rank, feed.num_frames, first_step=2):
            alone = batch(shared, loaded.step, rank)
            assert (loaded.captions, loaded.num_pairs) == (alone.captions, alone.num_pairs)
            assert torch.equal(loaded.frames, alone.frames)
        assert loaded.step == 8


def test_an_epoch_has_each_caption_once_and_another_has_other_frames(feed):
    steps = feed.plan().batches_per_epoch
    first = [batch(feed, step) for step in range(steps)]
    second = [batch(feed, steps + step) for step in range(steps)]
    for epoch in (first, second):
        captions = sorted(caption for one in epoch for caption in one.captions)
        assert captions == sorted(caption for texts in feed.captions for caption in texts)
    assert not torch.equal(first[0].frames[0], second[0].frames[0])


def test_crop_and_flip_are_drawn_once_a_clip(feed):
    for one in (batch(feed, step) for step in range(6)):
        for clip in one.frames.float():
            # the blue of all frames of a video is the same picture, and so is its crop
            assert (clip[:, 2] - clip[0, 2]).abs().max() < 12


def test_frames_are_drawn_from_their_own_segment(feed):
    plain = dataclasses.replace(feed, augment=False)
    seen = set()
    for step in range(40):
        one = batch(plain, step)
        for caption, clip in zip(one.captions, one.frames.float(), strict=True):
            video = int(caption.split("-")[0])
            frames = (clip[:, 0].mean(dim=(1, 2)) / 6).round().int().tolist()
            if feed.num_available[video] == 40:
                assert [frame // 10 for frame in frames] == [0, 1, 2, 3]
                seen.update(frames)
            if feed.num_available[video] == 3:
                assert frames == [0, 1, 2, 2]
    assert len(seen) > 20


def test_frozen_towers_give_the_same_pairs_and_frames(feed, tmp_path):
    texts = []
    frames = []
    for i, count in enumerate(feed.num_available):
        frames.append(str(tmp_path / f"{i}.frames"))
        write_embeds(frames[-1], np.stack([np.full(5, 100 * i + f) for f in range(count)]))
        texts.append(str(tmp_path / f"{i}.texts"))
        write_embeds(texts[-1], np.stack([np.full(5, 10 * i + j) for j in range(i % 4 + 1)]))
    cached = dataclasses.replace(feed, augment=False, frames_uris=frames, text_embeds_uris=texts)
    plain = dataclasses.replace(feed, augment=False)
    for step in range(6):
        pictures, embeds = batch(plain, step), batch(cached, step)
        assert embeds.captions == pictures.captions
        for caption, clip, of_clip, of_text in zip(
            embeds.captions, pictures.frames, embeds.frames, embeds.text_embeds, strict=True
        ):
            video, text = map(int, caption.split("-"))
            red = (clip[:, 0].float().mean(dim=(1, 2)) / 6).round()
            assert torch.equal(of_clip, (100 * video + red)[:, None].expand(-1, 5))
            assert torch.equal(of_text, torch.full((5,), 10.0 * video + text))


def test_damaged_embeddings_name_themselves(tmp_path):
    uri = str(tmp_path / "a.embedding")
    write_embeds(uri, np.ones((3, 4)))
    assert read_embeds(uri, [2, 0]).shape == (2, 4)
    Path(uri).write_bytes(Path(uri).read_bytes()[:-5])
    with pytest.raises(UserError, match=r"a\.embedding cannot be read .* remove that file"):
        read_embeds(uri)


def test_memory_stays_flat_over_ten_thousand_clips(feed):
    plan = feed.plan()
    grown = []
    process = psutil.Process()
    clips = step = 0
    while clips < 10_000:
        row = load_row(feed, plan, range(step, step + 1), 0)
        clips += len(row["captions"][0])
        step += 1
        if step % 250 == 0:
            grown.append(process.memory_info().rss)
    settled = grown[2]
    assert max(grown) - settled < 16 * 2**20, [size >> 20 for size in grown]
