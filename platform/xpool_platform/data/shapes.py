"""The corpus `shapes`: real H.264 files of three scenes each, and a caption for each scene.

A scene is a coloured shape that drifts over a coloured background. A caption tells one scene and
nothing of the two others, so that a model has to find the frames that it is about: the case for
which X-Pool was made. No two videos of a held-out split share a scene.
"""

import csv
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import ray
from jaxtyping import Bool, Float, UInt8

from xpool_platform.data.caption_rows import COLUMNS
from xpool_platform.data_config import ShapesConfig
from xpool_platform.placement import WHERE_DECODING

FILE_NAME = "captions.csv"

GENERATOR_VERSION = 1
"""Raised when the same config begins to make other videos."""

SCENES_PER_VIDEO = 3
FRAMES_PER_SECOND = 12
VIDEOS_PER_TASK = 25

ENCODER_OPTIONS = {
    "crf": "18",
    "preset": "veryfast",
    "threads": "1",
    # x264's lookahead reads memory that it has not set at this size, and files would differ by run
    "x264-params": "rc-lookahead=0:mbtree=0",
}

COLOURS = {
    "red": (225, 45, 45),
    "green": (40, 165, 60),
    "blue": (45, 80, 225),
    "yellow": (240, 220, 50),
    "cyan": (60, 215, 225),
    "magenta": (215, 65, 205),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
SIZES = {"small": 0.14, "large": 0.30}
"""Half the extent of a shape, as a share of the frame's side."""

Coordinates = Float[np.ndarray, "side side"]
SHAPES: dict[str, Callable[[Coordinates, Coordinates], Bool[np.ndarray, "side side"]]] = {
    "circle": lambda x, y: np.hypot(x, y) < 1,
    "ring": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.55),
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.85,
    "triangle": lambda x, y: (y < 0.8) & (2 * abs(x) < y + 1),
    "diamond": lambda x, y: abs(x) + abs(y) < 1,
    "plus": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.28) & (np.maximum(abs(x), abs(y)) < 1),
    "cross": lambda x, y: (abs(abs(x) - abs(y)) < 0.4) & (np.maximum(abs(x), abs(y)) < 0.85),
    "bar": lambda x, y: (abs(y) < 0.3) & (abs(x) < 1),
}
"""Whether a point belongs to a shape; the shape's extent is from -1 to 1."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a caption tells."""

    size: str
    colour: str
    shape: str
    background: str

    def caption(self) -> str:
        return f"a {self.size} {self.colour} {self.shape} on a {self.background} background"


@dataclass(frozen=True, slots=True)
class ShapesVideo:
    """A video that is to be drawn."""

    name: str
    split: str
    scenes: tuple[Scene, ...]
    seed: tuple[int, ...]


ALL_SCENES = tuple(
    Scene(size, colour, shape, background)
    for size, colour, shape, background in itertools.product(SIZES, COLOURS, SHAPES, COLOURS)
    if colour != background
)


def plan_videos(config: ShapesConfig) -> list[ShapesVideo]:
    """Which scenes each video shows. Deterministic from config.seed."""
    videos = []
    for split_index, (split, count) in enumerate(
        (("train", config.num_train), ("val", config.num_val), ("test", config.num_test))
    ):
        rng = np.random.default_rng([config.seed, split_index])
        deal = rng.permutation(len(ALL_SCENES))  # held out: each scene at most once
        for i in range(count):
            if split == "train":
                chosen = rng.choice(len(ALL_SCENES), SCENES_PER_VIDEO, replace=False)
            else:
                chosen = deal[i * SCENES_PER_VIDEO : (i + 1) * SCENES_PER_VIDEO]
            videos.append(
                ShapesVideo(
                    name=f"{split}_{i:05d}.mp4",
                    split=split,
                    scenes=tuple(ALL_SCENES[j] for j in chosen),
                    seed=(config.seed, split_index, i),
                )
            )
    return videos


def make_shapes(
    config: ShapesConfig, corpora_dir: Path, on_progress: Callable[[int, int], None]
) -> Path:
    """The folder of the corpus, written by Ray tasks unless it is there; captions.csv comes last.

    on_progress gets (done, total) of the videos.
    """
    settings = json.dumps({"version": GENERATOR_VERSION, **asdict(config)}, sort_keys=True)
    digest = hashlib.blake2b(settings.encode(), digest_size=6).hexdigest()
    root = corpora_dir / f"shapes-{digest}"
    videos = plan_videos(config)
    if (root / FILE_NAME).is_file():
        on_progress(len(videos), len(videos))
        return root
    root.mkdir(parents=True, exist_ok=True)
    write = ray.remote(num_cpus=1, label_selector=WHERE_DECODING)(_write_videos)
    pending = {
        write.remote(videos[i : i + VIDEOS_PER_TASK], config, str(root)): len(
            videos[i : i + VIDEOS_PER_TASK]
        )
        for i in range(0, len(videos), VIDEOS_PER_TASK)
    }
    done = 0
    on_progress(0, len(videos))
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        ray.get(ready)
        done += sum(pending.pop(task) for task in ready)
        on_progress(done, len(videos))
    _write_captions(root, videos)
    return root


def _write_videos(videos: list[ShapesVideo], config: ShapesConfig, root: str) -> None:
    for video in videos:
        path = Path(root, video.name)
        if not path.is_file():
            _encode(path, draw_video(video, config))


def draw_video(
    video: ShapesVideo, config: ShapesConfig
) -> UInt8[np.ndarray, "num_frames side side 3"]:
    """The frames, scene after scene; place and drift come from the video's seed."""
    rng = np.random.default_rng(video.seed)
    side = config.frame_size
    grid = (np.arange(side) + 0.5) / side
    frames = []
    for scene in video.scenes:
        extent = SIZES[scene.size]
        start, end = rng.uniform(extent, 1 - extent, size=(2, 2))
        for progress in np.linspace(0, 1, config.frames_per_scene):
            x, y = start + progress * (end - start)
            inside = SHAPES[scene.shape](
                np.broadcast_to((grid - x) / extent, (side, side)),
                np.broadcast_to((grid - y)[:, None] / extent, (side, side)),
            )
            colours = COLOURS[scene.background], COLOURS[scene.colour]
            frames.append(np.array(colours, np.uint8)[inside.astype(int)])
    return np.stack(frames)


def _encode(path: Path, frames: UInt8[np.ndarray, "num_frames side side 3"]) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        temporary = Path(file.name)
    try:
        with av.open(str(temporary), "w", format="mp4") as container:
            stream: Any = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.time_base = Fraction(1, FRAMES_PER_SECOND)
            stream.options = ENCODER_OPTIONS
            for picture in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_captions(root: Path, videos: list[ShapesVideo]) -> None:
    temporary = root / f"{FILE_NAME}.{os.getpid()}.part"
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS[:3])
        for video in videos:
            for scene in video.scenes:
                writer.writerow((video.name, scene.caption(), video.split))
    temporary.replace(root / FILE_NAME)
