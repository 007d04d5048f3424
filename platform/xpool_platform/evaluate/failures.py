"""The queries that fail, and what beats their truth: the rows of failures.parquet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from numpy.typing import DTypeLike

from xpool.metrics import RetrievalRanks

RANKED_PAST = 10
NUM_COMPETITORS = 10

COMPETITOR = pa.struct(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("score", pa.float32(), nullable=False),
    ]
)

FAILURES_SCHEMA = pa.schema(
    [
        pa.field("direction", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("beaten_by", pa.list_(pa.field("item", COMPETITOR, nullable=False))),
    ]
)
"""`score` is that of the truth, for v2t of the video's best caption. `beaten_by` are the best ten
competitors, the best first: for t2v videos, for v2t the best caption of each of ten videos."""

VALUES_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failures:
    """Of one direction, a row for each query that failed."""

    queries: Int[np.ndarray, " num_failures"]
    own_videos: Int[np.ndarray, " num_failures"]
    own_texts: Int[np.ndarray, " num_failures"] | None
    truth: Float[np.ndarray, " num_failures"]
    videos: Int[np.ndarray, "num_failures num_competitors"]
    texts: Int[np.ndarray, "num_failures num_competitors"] | None
    scores: Float[np.ndarray, "num_failures num_competitors"]


def failures_table(
    ranks: RetrievalRanks,
    scores: Float[np.ndarray, "num_texts num_videos"],
    video_ids: Sequence[str],
    captions: Sequence[str],
) -> pa.Table:
    """Every query ranked past RANKED_PAST, the worst first, with what beats it.

    `ranks` are those by `scores`, `video_ids` their columns, `captions` their rows. Memory beyond
    the result does not grow with the scores. The schema is FAILURES_SCHEMA.
    """
    ids, texts = pa.array(video_ids, pa.string()), pa.array(captions, pa.string())
    t2v, v2t = _failing_texts(ranks, scores), _failing_videos(ranks, scores)
    found = pa.concat_tables(
        [
            _table("t2v", t2v, ranks.t2v[t2v.queries], ids, texts),
            _table("v2t", v2t, ranks.v2t[v2t.queries], ids, texts),
        ]
    )
    order = np.argsort(-found["rank"].to_numpy(), kind="stable")
    return found.take(pa.array(order)).combine_chunks()


def _failing_texts(ranks: RetrievalRanks, scores: np.ndarray) -> _Failures:
    queries = np.flatnonzero(ranks.t2v > RANKED_PAST)
    own = ranks.video_of_text[queries]
    best, values = [], []
    step = max(1, VALUES_AT_ONCE // scores.shape[1])
    for i in range(0, len(queries), step):
        some = queries[i : i + step]
        competing = scores[some]
        competing[np.arange(len(some)), own[i : i + step]] = -np.inf
        columns, top = _best(competing)
        best.append(columns)
        values.append(top)
    return _Failures(
        queries=queries,
        own_videos=own,
        own_texts=queries,
        truth=scores[queries, own],
        videos=_stacked(best, np.int64),
        texts=None,
        scores=_stacked(values, scores.dtype),
    )


def _failing_videos(ranks: RetrievalRanks, scores: np.ndarray) -> _Failures:
    queries = np.flatnonzero(ranks.v2t > RANKED_PAST)
    by_video = np.argsort(ranks.video_of_text, kind="stable")
    num_videos = scores.shape[1]
    bounds = np.searchsorted(ranks.video_of_text[by_video], np.arange(num_videos + 1))
    truth, videos, texts, values = [], [], [], []
    step = max(1, VALUES_AT_ONCE // len(scores))
    for i in range(0, len(queries), step):
        some = queries[i : i + step]
        by_text = scores[:, some][by_video]
        by_set = np.maximum.reduceat(by_text, bounds[:-1], axis=0).T  # [queries, text set]
        rows = np.arange(len(some))
        truth.append(by_set[rows, some])
        by_set[rows, some] = -np.inf
        best, top = _best(by_set)
        videos.append(best)
        values.append(top)
        texts.append(
            np.array(
                [
                    [first + by_text[first:stop, row].argmax() for first, stop in pairs]
                    for row, pairs in enumerate(np.stack([bounds[best], bounds[best + 1]], axis=2))
                ]
            )
        )
    return _Failures(
        queries=queries,
        own_videos=queries,
        own_texts=None,
        truth=np.concatenate(truth) if truth else np.empty(0),
        videos=_stacked(videos, np.int64),
        texts=by_video[_stacked(texts, np.int64)],
        scores=_stacked(values, scores.dtype),
    )


def _best(
    competing: Float[np.ndarray, "num_queries num_candidates"],
) -> tuple[np.ndarray, np.ndarray]:
    """Columns and scores of the best NUM_COMPETITORS of each row, the best first."""
    columns = np.argpartition(competing, -NUM_COMPETITORS, axis=1)[:, -NUM_COMPETITORS:]
    columns.sort(axis=1)
    values = np.take_along_axis(competing, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _stacked(parts: list[np.ndarray], dtype: DTypeLike) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty((0, NUM_COMPETITORS), dtype)


def _table(
    direction: str,
    failures: _Failures,
    ranks: Int[np.ndarray, " num_failures"],
    ids: pa.Array,
    texts: pa.Array,
) -> pa.Table:
    competitors = pa.StructArray.from_arrays(
        [
            ids.take(pa.array(failures.videos.ravel())),
            _taken(texts, failures.texts, failures.videos.size),
            pa.array(failures.scores.ravel().astype(np.float32)),
        ],
        fields=list(COMPETITOR),
    )
    offsets = pa.array(np.arange(len(ranks) + 1) * NUM_COMPETITORS, pa.int32())
    columns = [
        pa.array([direction] * len(ranks), pa.string()),
        ids.take(pa.array(failures.own_videos)),
        _taken(texts, failures.own_texts, len(ranks)),
        pa.array(ranks, pa.int32()),
        pa.array(failures.truth.astype(np.float32)),
        pa.ListArray.from_arrays(
            offsets, competitors, type=FAILURES_SCHEMA.field("beaten_by").type
        ),
    ]
    return pa.table(columns, schema=FAILURES_SCHEMA)


def _taken(texts: pa.Array, indices: np.ndarray | None, count: int) -> pa.Array:
    return (
        pa.nulls(count, pa.string()) if indices is None else texts.take(pa.array(indices.ravel()))
    )
