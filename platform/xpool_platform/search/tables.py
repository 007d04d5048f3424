"""Answers as tables for a terminal."""

from collections.abc import Sequence

from xpool_platform.console import Console
from xpool_platform.search.answers import (
    CaptionsAnswer,
    MomentAnswer,
    SearchAnswer,
    SimilarAnswer,
    VideoAnswer,
)


def print_search(answer: SearchAnswer, console: Console) -> None:
    """A table for each query, and what it took."""
    for each in answer.answers:
        rows = [
            [
                str(found.rank),
                found.video_id,
                f"{found.score:.4f}",
                moments_in_words(found.moments),
                next(iter(found.captions), ""),
            ]
            for found in each.results
        ]
        console.rows(each.query, ["", "video", "score", "moments", "a caption"], rows)
    count = len(answer.answers)
    queries = "1 query" if count == 1 else f"{count} queries"
    console.line(
        f"{answer.num_videos:,} videos, {answer.method} search, {queries} in "
        f"{answer.took_ms:.0f} ms"
    )


def print_example(captions: CaptionsAnswer, similar: SimilarAnswer, console: Console) -> None:
    """The captions that fit a video, and the videos like it."""
    rows = [
        [str(found.rank), found.caption, f"{found.score:.4f}", found.video_id]
        for found in captions.results
    ]
    if rows:
        console.rows(f"captions that fit {captions.video_id}", ["", "caption", "score", "of"], rows)
    else:
        console.line("the index has no captions")
    console.rows(
        f"videos like {similar.video_id}",
        ["", "video", "cosine", "a caption"],
        _similar(similar.results),
    )


def moments_in_words(moments: Sequence[MomentAnswer]) -> str:
    """`1.0-2.0 s (83 %)`, the best first."""
    return ", ".join(
        f"{moment.start_s:.1f}-{moment.end_s:.1f} s ({100 * moment.weight:.0f} %)"
        for moment in moments
    )


def _similar(results: Sequence[VideoAnswer]) -> list[list[str]]:
    return [
        [str(found.rank), found.video_id, f"{found.score:.4f}", next(iter(found.captions), "")]
        for found in results
    ]
