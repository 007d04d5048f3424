"""A tiny model that was never trained, as a checkpoint and packaged, and its scores."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from videos import write_video
from xpool.clip import build_tokenizer
from xpool.model import XPool, build_model
from xpool.scoring import score_matrix
from xpool_platform.checkpoint import CheckpointKeeper, TrainingFile, load_checkpoint
from xpool_platform.checkpoint_files import CheckpointState
from xpool_platform.config import ExperimentConfig, TrackingConfig
from xpool_platform.data.decode_guard import DecodeGuard
from xpool_platform.data.frame_store import write_frames
from xpool_platform.data.video import FrameSettings
from xpool_platform.evaluate.encode import encode_split
from xpool_platform.experiments import shapes
from xpool_platform.tracking.model_folder import save_model_folder

TEXTS = ["a red circle", "two blue squares move to the left", "nothing at all"]


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """Under the data settings of `shapes`."""

    checkpoint: str
    videos: list[str]
    """Wide, high, square, long and short ones."""

    scores: np.ndarray
    """Of TEXTS with the videos, whose frames come from a frame store."""

    folder: Path
    """As MLflow takes it; TEXTS[:2] and videos[1:3] are its example."""


def tiny_model(folder: Path) -> TinyModel:
    checkpoint = tiny_checkpoint(folder / "run", _private_config())
    videos = _videos(folder / "a corpus")
    packaged = folder / "packaged"
    save_model_folder(packaged, checkpoint, texts=TEXTS[:2], videos=videos[1:3])
    scores = scores_of(checkpoint, videos, folder / "frames")
    return TinyModel(checkpoint=checkpoint, videos=videos, scores=scores, folder=packaged)


def platform_scores(model: XPool, config: ExperimentConfig, rows: list[dict]) -> np.ndarray:
    """Scores by the way that evaluations go, of TEXTS with videos whose frames are at a URI."""
    captions = [TEXTS, *[[]] * (len(rows) - 1)]
    embeds = encode_split(
        model,
        build_tokenizer(config.model),
        pa.Table.from_pylist(
            [{**row, "captions": own} for row, own in zip(rows, captions, strict=True)]
        ),
        num_frames=config.data.num_frames,
        batch_size=3,
        device=torch.device("cpu"),
        rank=0,
        world_size=1,
        gather_rows=lambda own, _: own,
    )
    return score_matrix(model.pooling, embeds.text_embeds, embeds.frame_embeds).numpy()


def tiny_checkpoint(run_dir: Path, config: ExperimentConfig | None = None) -> str:
    """A checkpoint of `shapes`, or of this config."""
    torch.manual_seed(3)
    config = config or shapes()
    model = build_model(config.model, load_pretrained=False)
    keeper = CheckpointKeeper(str(run_dir / "checkpoints"))
    state = CheckpointState(step=7, score=12.5)
    keeper.add(model, config, state, TrainingFile({}, {}))
    keeper.wait()
    return keeper.of_step(7)


def _private_config() -> ExperimentConfig:
    """With what nobody else is to see."""
    return replace(
        shapes(),
        output_dir="/mine/outputs",
        data=replace(shapes().data, root="/mine/videos"),
        model=replace(shapes().model, clip_pretrained="/mine/clip.pt"),
        tracking=TrackingConfig(uri="http://name:secret@server"),
    )


def _videos(folder: Path) -> list[str]:
    folder.mkdir()
    sizes = {"wide": ((160, 96), 40), "high one": ((96, 160), 33), "long": ((64, 64), 300)}
    paths = [write_video(folder / f"{n}.mp4", num, size=s) for n, (s, num) in sizes.items()]
    return [str(path) for path in [*paths, write_video(folder / "short.mp4", 5)]]


def scores_of(checkpoint: str, videos: list[str], store: Path) -> np.ndarray:
    """Of TEXTS with these files, by the way that evaluations go."""
    store.mkdir()
    model, config, _ = load_checkpoint(checkpoint)
    guard = DecodeGuard(60, 2**32)
    rows = []
    for i, path in enumerate(videos):
        decoded = guard.encode(path, FrameSettings.of(config.data))
        write_frames(f"{store}/{i}.parquet", decoded)
        rows.append({"frames_uri": f"{store}/{i}.parquet", "num_frames": len(decoded.jpegs)})
    guard.close()
    return platform_scores(model, config, rows)
