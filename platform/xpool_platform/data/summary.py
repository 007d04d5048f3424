"""How much there is of each split."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from xpool_platform.data.manifest import SPLITS

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One split in numbers."""

    split: str
    num_videos: int
    num_captions: int
    hours: float | None
    """Of video; None where it is not known."""


def split_summary(videos: pa.Table) -> list[SplitSummary]:
    """The splits of a manifest in the order of SPLITS, those without videos left out.

    hours is the sum of the column `duration_s`, None if there is none or a video has none.
    """
    summaries = []
    for split in SPLITS:
        its = videos.filter(pc.equal(videos["split"], split))
        if not len(its):
            continue
        summaries.append(
            SplitSummary(
                split=split,
                num_videos=len(its),
                num_captions=pc.sum(pc.list_value_length(its["captions"])).as_py(),
                hours=_hours(its),
            )
        )
    return summaries


def _hours(videos: pa.Table) -> float | None:
    if "duration_s" not in videos.column_names or videos["duration_s"].null_count:
        return None
    return float(pc.sum(videos["duration_s"]).as_py() / SECONDS_PER_HOUR)
