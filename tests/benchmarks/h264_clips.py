"""Clips as retrieval corpora have them, and the loader that the authors' users have."""

import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import transforms

RATE = 30
NUM_FRAMES = 12
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def make_clips(
    folder: Path, num_clips: int, *, size: tuple[int, int] = (320, 240), seconds: tuple[int, int]
) -> list[Path]:
    """H.264 clips with a key frame every 250 frames, of lengths evenly spread over `seconds`."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths = np.linspace(*seconds, num_clips)
    return [
        _make_clip(folder / f"clip{i:03d}.mp4", round(length * RATE), size, seed=i)
        for i, length in enumerate(lengths)
    ]


def copies(clips: list[Path], folder: Path, times: int) -> list[Path]:
    """Each clip under so many names."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / f"{i}_{clip.name}" for i in range(times) for clip in clips]
    for i, path in enumerate(made):
        shutil.copyfile(clips[i % len(clips)], path)
    return made


def frames_by_seeking(path: str, indices: list[int]) -> list[np.ndarray]:
    """OpenCV, a seek to each frame, as the authors' loader does it."""
    capture = cv2.VideoCapture(path)
    frames = []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        _, frame = capture.read()
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    capture.release()
    return frames


def uniform_by_seeking(path: str) -> list[np.ndarray]:
    """The centre frames of equal segments."""
    capture = cv2.VideoCapture(path)
    num_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    bounds = np.linspace(0, num_frames, NUM_FRAMES + 1).astype(int)
    centres = ((bounds[:-1] + bounds[1:] - 1) // 2).tolist()
    return frames_by_seeking(path, centres)


class PlainDataset(Dataset):
    """A decode for each (video, caption), then the transform on float tensors."""

    def __init__(self, paths: list[Path], captions_per_video: int) -> None:
        self.pairs = [(str(path), i) for path in paths for i in range(captions_per_video)]
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(224, scale=(0.5, 1.0), antialias=True),
                transforms.RandomHorizontalFlip(),
                transforms.Normalize(OPENAI_MEAN, OPENAI_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, caption = self.pairs[index]
        frames = torch.from_numpy(np.stack(uniform_by_seeking(path)))
        return self.transform(frames.permute(0, 3, 1, 2).float() / 255), caption


def _make_clip(path: Path, num_frames: int, size: tuple[int, int], seed: int) -> Path:
    """A textured scene that pans, under a noise that changes from frame to frame."""
    width, height = size
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    scene = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    noise = rng.integers(0, 12, (8, height, width, 3), np.uint8)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "28", "g": "250"}
        for i in range(num_frames):
            picture = np.roll(scene, (i // 2, 2 * i), axis=(0, 1)) // 2 + noise[i % 8]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
