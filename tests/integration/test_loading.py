"""Loading as a training does it, through a real Ray: order, an end, and a bound on memory."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import ray
import simplejpeg
from ray.data import DataContext, ExecutionOptions

from xpool_platform.data.batches import worker_batches
from xpool_platform.data.feed import Feed, started_rows, training_dataset
from xpool_platform.data.frame_store import frames_uri, write_frames
from xpool_platform.data.video import EncodedVideo

pytestmark = pytest.mark.ray

OBJECT_STORE_BYTES = 256 * 2**20
NUM_VIDEOS, NUM_FRAMES, SIZE, NUM_STEPS = 16, 4, 224, 150
"""In all 1.4 GB of batches."""


@pytest.fixture
def _small_object_store() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
    )
    context = DataContext.get_current()
    before = context.execution_options
    context.execution_options = ExecutionOptions(preserve_order=True)
    yield
    context.execution_options = before
    ray.shutdown()


def feed(store: str) -> Feed:
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    jpeg = simplejpeg.encode_jpeg(picture, quality=50)
    video = EncodedVideo(jpegs=[jpeg] * NUM_FRAMES, times_s=np.arange(NUM_FRAMES), duration_s=4.0)
    uris = [frames_uri(store, f"{i:02d}") for i in range(NUM_VIDEOS)]
    for uri in uris:
        write_frames(uri, video)
    return Feed(
        frames_uris=uris,
        text_embeds_uris=None,
        num_available=[NUM_FRAMES] * NUM_VIDEOS,
        captions=[[f"video {i}"] for i in range(NUM_VIDEOS)],
        batch_size=NUM_VIDEOS,
        num_frames=NUM_FRAMES,
        image_size=SIZE,
        augment=False,
        seed=0,
        world_size=1,
        num_steps=NUM_STEPS,
    )


def used_bytes() -> float:
    total = ray.cluster_resources()["object_store_memory"]
    return total - ray.available_resources()["object_store_memory"]


@pytest.mark.slow
@pytest.mark.usefixtures("_small_object_store")
def test_loading_stops_when_nobody_takes_the_batches_and_none_is_lost(tmp_path):
    dataset = training_dataset(feed(str(tmp_path)), num_cpus=1)
    (shard,) = dataset.streaming_split(1)
    batches = worker_batches(started_rows(shard), 0, NUM_FRAMES)
    assert next(batches).step == 0
    ahead = [used_bytes()]
    while len(ahead) < 8 or len(set(ahead[-4:])) > 1:
        assert len(ahead) < 60, ahead
        time.sleep(1)
        ahead.append(used_bytes())
    batch_bytes = NUM_VIDEOS * NUM_FRAMES * 3 * SIZE**2
    assert 2 * batch_bytes < ahead[-1] < 0.7 * OBJECT_STORE_BYTES
    assert [batch.step for batch in batches] == list(range(1, NUM_STEPS))
