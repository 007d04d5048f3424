"""What an evaluation leaves on disk: metrics.json, ranks.parquet and, on demand, scores.npy.

ranks.parquet has a row for each query: first the captions (t2v), in the order of the rows of
scores.npy, then the videos (v2t), in the order of its columns.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xpool.metrics import RetrievalRanks
from xpool_platform.credentials import refuse_credentials
from xpool_platform.errors import UserError
from xpool_platform.locations import absolute, is_file, is_uri, kept_copy, readable

METRICS, RANKS, SCORES = "metrics.json", "ranks.parquet", "scores.npy"
FAILURES = "failures.parquet"
"""The queries that are ranked past ten, and what beats them."""

RANKS_SCHEMA = pa.schema(
    [
        pa.field("direction", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("rank_dual_softmax", pa.int32()),
        pa.field("rank_qb_norm", pa.int32()),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
"""`score` is that of the truth: for v2t, of the video's best caption."""


def ranks_table(
    ranks: Mapping[str, RetrievalRanks],
    scores: np.ndarray,
    video_ids: list[str],
    captions: list[str],
) -> pa.Table:
    """The rank of the truth for every query; ranks are by method: plain, dual_softmax, qb_norm."""
    plain = ranks["plain"]
    truth = scores[np.arange(len(captions)), plain.video_of_text]
    best_caption = np.full(len(video_ids), -np.inf)
    np.maximum.at(best_caption, plain.video_of_text, truth)

    def column(method: str, *, v2t: bool = True) -> pa.Array:
        if method not in ranks:
            return pa.nulls(len(captions) + len(video_ids), pa.int32())
        own = ranks[method].v2t.tolist() if v2t else [None] * len(video_ids)
        return pa.array([*ranks[method].t2v.tolist(), *own], pa.int32())

    columns = [
        ["t2v"] * len(captions) + ["v2t"] * len(video_ids),
        [video_ids[video] for video in plain.video_of_text] + video_ids,
        [*captions, *[None] * len(video_ids)],
        column("plain"),
        column("dual_softmax"),
        column("qb_norm", v2t=False),
        np.concatenate([truth, best_caption]).astype(np.float32),
    ]
    return pa.table(columns, schema=RANKS_SCHEMA)


def write_results(
    folder: Path, summary: Mapping[str, Any], table: pa.Table, scores: np.ndarray | None
) -> list[Path]:
    """Write them; gives the paths."""
    (folder / METRICS).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    pq.write_table(table, folder / RANKS)
    paths = [folder / METRICS, folder / RANKS]
    if scores is not None:
        np.save(folder / SCORES, scores)
        paths.append(folder / SCORES)
    return paths


def query_table(video_ids: list[str], captions: list[list[str]]) -> pa.Table:
    """The queries of a split in the order of `ranks_table`, without their ranks."""
    texts = [text for of_video in captions for text in of_video]
    of_text = [i for i, c in zip(video_ids, captions, strict=True) for _ in c]
    return pa.table(
        {
            "direction": ["t2v"] * len(texts) + ["v2t"] * len(video_ids),
            "video_id": of_text + video_ids,
            "caption": pa.array([*texts, *[None] * len(video_ids)], pa.string()),
        }
    )


def find_ranks(name: str, output_dir: Path) -> Path:
    """The ranks.parquet that a user means: a file, or the folder or name of a run or evaluation.

    Raises UserError if there is none.
    """
    refuse_credentials({"against": name})
    if is_uri(name):
        with readable(name):
            if is_file(name):
                return kept_copy(name, output_dir / "copies")
    given = Path(absolute(name))
    folders = [given, output_dir / "evaluations" / name, output_dir / "runs" / name]
    for path in (given, *(folder / RANKS for folder in folders)):
        if path.is_file():
            return path
    raise UserError(
        f"against {name!r} is neither a {RANKS}, nor a folder that holds one, nor a run or an "
        f"evaluation in {output_dir}; give one of these to --against"
    )


def read_ranks(path: Path, table: pa.Table) -> RetrievalRanks:
    """The plain ranks in a file, in the order of the queries of `table`, with or without ranks.

    Raises UserError if the file is of another kind, or ranks other queries.
    """
    other = read_ranked_queries(path, "against: ")
    try:
        return ranks_in_order(other, table)
    except OtherQueriesError as error:
        raise UserError(
            f"against: {path} does not rank the same queries: it has {len(other)}, this "
            f"evaluation {len(table)}, and {error}; evaluate both on the same split of the same "
            "data"
        ) from error


def read_ranked_queries(path: Path, whose: str = "") -> pa.Table:
    """The queries in a file, as in `query_table`, and the plain `rank` of each.

    `whose` begins the messages. Raises UserError if the file is of another kind, or ranks what
    cannot be.
    """
    names = ["direction", "video_id", "caption", "rank"]
    try:
        table = pq.read_table(path, columns=names).cast(
            pa.schema([RANKS_SCHEMA.field(name) for name in names])
        )
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{whose}{path} is no {RANKS} of this project: {reason}") from error
    is_text = pc.equal(table["direction"], "t2v")
    texts, videos = table.filter(is_text), table.filter(pc.invert(is_text))
    ranks = table["rank"].to_numpy()
    if (
        not len(videos)
        or pc.count_distinct(videos["video_id"]).as_py() != len(videos)
        or set(texts["video_id"].to_pylist()) != set(videos["video_id"].to_pylist())
        or not (ranks.min() >= 1 and ranks.max() <= len(videos))
    ):
        raise UserError(
            f"{whose}{path} is damaged: its {len(texts)} captions and {len(videos)} videos do not "
            "belong together, or have ranks that cannot be; evaluate the run again"
        )
    return table


class OtherQueriesError(ValueError):
    """Two evaluations do not rank the same queries; says how many, and names one."""


def ranks_in_order(other: pa.Table, table: pa.Table) -> RetrievalRanks:
    """The ranks of other, of `read_ranked_queries`, in the order of the queries of `table`.

    Raises OtherQueriesError if the queries are not the same.
    """
    place = {key: row for row, key in enumerate(_keys(other))}
    keys = _keys(table)
    unknown = [key for key in keys if key not in place]
    if unknown or len(place) != len(keys):
        more = f", such as {unknown[0][:3]}" if unknown else ""
        raise OtherQueriesError(f"{len(unknown)} of these are not in the other{more}")
    ranks = other["rank"].to_numpy()[[place[key] for key in keys]]
    is_text = np.array(table["direction"].to_pylist()) == "t2v"
    column_of = {
        video_id: i for i, video_id in enumerate(table["video_id"].filter(~is_text).to_pylist())
    }
    video_of_text = [column_of[v] for v in table["video_id"].filter(is_text).to_pylist()]
    return RetrievalRanks(
        t2v=ranks[is_text], v2t=ranks[~is_text], video_of_text=np.array(video_of_text)
    )


def _keys(table: pa.Table) -> list[tuple[str, str, str | None, int]]:
    """What tells the queries apart: equal captions of a video are numbered."""
    seen: dict[tuple[str, str, str | None], int] = {}
    keys = []
    for direction, video_id, caption in zip(
        *(table[name].to_pylist() for name in ("direction", "video_id", "caption")), strict=True
    ):
        query = (direction, video_id, caption)
        seen[query] = seen.get(query, -1) + 1
        keys.append((*query, seen[query]))
    return keys
