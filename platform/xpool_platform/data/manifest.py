"""One Arrow table of what there is to learn from: a row for each video, checked whole."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from xpool_platform.config import DataConfig
from xpool_platform.data.captions_csv import FILE_NAME, Caption, read_captions
from xpool_platform.errors import UserError

SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("split", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
    ]
)
SPLITS = ("train", "val", "test")
MAX_LISTED = 50


def folder_manifest(root: Path) -> pa.Table:
    """The manifest of a folder with captions.csv; a row without a split is for training.

    Raises UserError that lists everything that is wrong: videos that are missing or outside the
    folder, empty captions, unknown splits, videos in two splits, captions given twice.
    """
    root = root.resolve()
    captions = read_captions(root)
    problems = _problems(root, captions)
    if problems:
        shown = problems[:MAX_LISTED]
        more = [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
        raise UserError(
            f"{root / FILE_NAME} does not fit the videos, {len(problems)} problems:\n  "
            + "\n  ".join([*shown, *more])
            + "\ncorrect the file or add the videos, then run again"
        )
    rows: dict[str, dict[str, object]] = {}
    texts: dict[str, list[str]] = {}
    for caption in captions:
        video_id = _video_id(caption)
        texts.setdefault(video_id, []).append(caption.caption)
        rows.setdefault(
            video_id,
            {
                "video_id": video_id,
                "uri": str(root / caption.video),
                "split": caption.split or "train",
                "captions": texts[video_id],
                "start_s": caption.start_s,
                "end_s": caption.end_s,
            },
        )
    return pa.Table.from_pylist(list(rows.values()), schema=SCHEMA)


def hold_out_validation(manifest: pa.Table, config: DataConfig, seed: int) -> pa.Table:
    """Move data.val_fraction of the training videos to `val`, if the data names no val split."""
    splits = np.array(manifest["split"].to_pylist(), dtype=object)
    train = np.flatnonzero(splits == "train")
    num_val = round(config.val_fraction * len(train))
    if num_val == 0 or (splits == "val").any():
        return manifest
    splits[np.random.default_rng(seed).permutation(train)[:num_val]] = "val"
    column = manifest.schema.get_field_index("split")
    return manifest.set_column(column, "split", pa.array(splits.tolist(), pa.string()))


def _video_id(caption: Caption) -> str:
    if caption.start_s is None and caption.end_s is None:
        return caption.video
    start = "" if caption.start_s is None else f"{caption.start_s:g}"
    end = "" if caption.end_s is None else f"{caption.end_s:g}"
    return f"{caption.video}#{start}-{end}"


def _problems(root: Path, captions: list[Caption]) -> list[str]:
    problems: dict[str, None] = {}  # in order, each once
    split_of: dict[str, str] = {}
    seen: dict[tuple[str, str], int] = {}
    for caption in captions:
        where = f"line {caption.line}: "
        if not caption.video:
            problems[f"{where}no video"] = None
            continue
        if not caption.caption:
            problems[f"{where}no caption for {caption.video}"] = None
        path = root / caption.video
        if not path.resolve().is_relative_to(root):
            problems[f"{where}{caption.video} lies outside the folder"] = None
        elif not path.is_file():
            problems[f"{where}{caption.video} is not there"] = None
        split = caption.split or "train"
        if split not in SPLITS:
            problems[f"{where}split {split!r} is none of {', '.join(SPLITS)}"] = None
        if split_of.setdefault(caption.video, split) != split:
            problems[
                f"{where}{caption.video} is in the splits {split_of[caption.video]} and {split}"
            ] = None
        first = seen.setdefault((_video_id(caption), caption.caption), caption.line)
        if first != caption.line and caption.caption:
            problems[f"{where}the caption of line {first} again"] = None
    return list(problems)
