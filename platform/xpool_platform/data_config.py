"""The data of an experiment: where videos and captions come from, and how they are decoded."""

from dataclasses import dataclass, field
from typing import Literal

from xpool_platform.config_checks import at_least


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapesConfig:
    """The corpus that `shapes` makes: videos of three scenes, a caption for each scene."""

    num_train: int = 1200
    """Training videos."""

    num_val: int = 100
    """Validation videos."""

    num_test: int = 200
    """Test videos, at most 298: no two of them share a scene."""

    frame_size: int = 64
    """Pixels a side, an even number."""

    frames_per_scene: int = 12
    """Frames of each of the three scenes, at 12 frames a second."""

    seed: int = 0
    """Seed of the whole corpus."""

    def __post_init__(self) -> None:
        at_least("data.shapes", self, 1, "num_train", "num_val", "num_test", "frames_per_scene")
        at_least("data.shapes", self, 16, "frame_size")
        if self.frame_size % 2:
            raise ValueError(f"data.shapes.frame_size must be even, not {self.frame_size}")
        for name in ("num_val", "num_test"):
            if getattr(self, name) > 298:
                raise ValueError(
                    f"data.shapes.{name} must be at most 298, since no two videos of a held-out "
                    f"split share a scene, not {getattr(self, name)}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where videos and captions come from and how they are decoded."""

    source: Literal["shapes", "folder", "msrvtt", "msvd", "lsmdc", "activitynet"] = "folder"
    """`shapes` makes its own videos, `folder` takes yours; the others are benchmarks."""

    root: str = ""
    """The videos' folder; `folder` finds captions.csv, .tsv, .jsonl, .parquet or .txt in it."""

    annotations: str = ""
    """File of video,caption[,split,start_s,end_s,video_id]; a benchmark's folder; empty: root."""

    msrvtt_train: Literal["9k", "7k"] = "9k"
    """Training list of MSR-VTT: 9,000 or 7,010 videos; both are tested on 1k-A."""

    shapes: ShapesConfig = field(default_factory=ShapesConfig)
    """The corpus of the source `shapes`."""

    val_fraction: float = 0.0
    """Share of the training videos held out for validation where the data names no val split."""

    num_frames: int = 12
    """Frames that the model sees of each video."""

    frames_per_second: float = 3.0
    """Frames kept of each second of video; of a short one as many as num_frames need, or all."""

    short_side: int = 224
    """Pixels of the short side of the kept frames; smaller videos are enlarged."""

    jpeg_quality: int = 90
    """Quality of the kept frames, which are JPEG files, from 1 to 100."""

    cache: Literal["frames", "none"] = "frames"
    """`frames` keeps the frames of a video once it is decoded; `none` decodes it at each use."""

    frames_dir: str = ""
    """Where frames are kept: a folder, or a URI as s3://bucket/frames; empty: output_dir/frames."""

    augment: bool = True
    """Whether training crops and flips clips at random; off, it sees them as evaluation does."""

    cache_embeds: bool = True
    """Whether towers that do not learn (optim.clip_lr 0, no augment) embed everything once."""

    decoder: Literal["pyav", "decord"] = "pyav"
    """`pyav` is exact and strict; `decord` is there for those who want its pixels."""

    decode_deadline_s: float = 120.0
    """Seconds after which the decoding of one video is given up."""

    decode_memory_bytes: int = 4 * 2**30
    """Address space of the process that decodes."""

    decode_cpus: float = 1.0
    """CPUs that each decoding or loading task reserves on the cluster."""

    max_bad_fraction: float = 0.01
    """Share of the videos that may fail to decode before the job stops."""

    def __post_init__(self) -> None:
        at_least("data", self, 1, "num_frames", "short_side")
        for name in ("frames_per_second", "decode_deadline_s", "decode_cpus"):
            if not getattr(self, name) > 0:
                raise ValueError(f"data.{name} must be above 0, not {getattr(self, name)}")
        at_least("data", self, 2**28, "decode_memory_bytes")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"data.jpeg_quality must be from 1 to 100, not {self.jpeg_quality}")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"data.val_fraction must be in [0, 1), not {self.val_fraction}")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError(
                f"data.max_bad_fraction must be in [0, 1], not {self.max_bad_fraction}"
            )
