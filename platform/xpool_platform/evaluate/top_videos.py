"""Which queries are shown with the videos that they find first."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, UInt8

from xpool.sampling import uniform_frame_indices
from xpool_platform.tracking.figures.top_videos import FoundVideo, ShownQuery

NUM_PLACES, NUM_FRAMES = 5, 4
OF_EACH_KIND = 2


def shown_queries(
    scores: Float[np.ndarray, "num_texts num_videos"],
    ranks: Int[np.ndarray, " num_texts"],
    video_of_text: Int[np.ndarray, " num_texts"],
    videos: pa.Table,
    frames_of: Callable[[int], UInt8[np.ndarray, "num_frames height width 3"]],
) -> list[ShownQuery]:
    """The best, median and worst captions by rank, of equals those with the higher score.

    They are of different videos where there are enough.
    """
    texts = [text for captions in videos["captions"].to_pylist() for text in captions]
    truth = scores[np.arange(len(texts)), video_of_text]
    order = np.lexsort([-truth, ranks])
    queries = []
    for kind, text in _chosen(order, video_of_text):
        own = int(video_of_text[text])
        found = []
        for place, video in _found(scores[text], own, int(ranks[text])):
            frames = frames_of(video)
            shown = frames[uniform_frame_indices(len(frames), NUM_FRAMES)]
            score = float(scores[text, video])
            found.append(FoundVideo(frames=shown, place=place, score=score, is_truth=video == own))
        queries.append(
            ShownQuery(kind=kind, caption=texts[text], rank=int(ranks[text]), found=found)
        )
    return queries


def _chosen(
    order: Int[np.ndarray, " num_texts"], video_of_text: Int[np.ndarray, " num_texts"]
) -> list[tuple[str, int]]:
    """Kind and text, OF_EACH_KIND of each kind, from the best to the worst."""
    middle = len(order) // 2
    from_middle = np.argsort(np.abs(np.arange(len(order)) - middle), kind="stable")
    taken: set[int] = set()
    seen: set[int] = set()
    by_kind: dict[str, list[int]] = {}
    kinds: list[tuple[str, Sequence[int]]] = [
        ("Best", order.tolist()),
        ("Worst", order[::-1].tolist()),
        ("Median", order[from_middle].tolist()),
    ]
    for kind, candidates in kinds:
        fresh = (t for t in candidates if t not in taken and int(video_of_text[t]) not in seen)
        again = (t for t in candidates if t not in taken)
        by_kind[kind] = []
        for _ in range(OF_EACH_KIND):
            text = next(fresh, next(again, None))
            if text is None:
                break
            by_kind[kind].append(text)
            taken.add(text)
            seen.add(int(video_of_text[text]))
    return [(kind, text) for kind in ("Best", "Median", "Worst") for text in by_kind[kind]]


def _found(scores: Float[np.ndarray, " num_videos"], own: int, rank: int) -> list[tuple[int, int]]:
    """Place and video of the first NUM_PLACES, and the truth, which comes after its equals."""
    order = np.lexsort([np.arange(len(scores)) == own, -scores])
    found = list(enumerate(order[:NUM_PLACES].tolist(), start=1))
    return found if own in dict(found).values() else [*found, (rank, own)]
