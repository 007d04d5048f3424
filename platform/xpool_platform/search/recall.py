"""How much of the exhaustive search two stages find, measured on real sentences."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from xpool_platform.data.plain_text import caption_problem
from xpool_platform.data.text_files import open_text
from xpool_platform.errors import UserError
from xpool_platform.search.index_files import Recall
from xpool_platform.search.search_index import SearchIndex

NUM_QUERIES = 200
K = 10
MAX_CAPTIONS = 1_000_000
"""Captions of the index among which the queries are drawn, at most."""


def measure_recall(
    index: SearchIndex, text_embeds: Float[Tensor, "num_texts embed_dim"], whose: str
) -> Recall:
    """Recall@10 of two stages against exhaustive search with these queries."""
    exhaustive = index.search(text_embeds, K, "exhaustive")
    two_stage = index.search(text_embeds, K, "two-stage")
    shares = []
    for exact, found in zip(exhaustive, two_stage, strict=True):
        places = {(hit.segment, hit.row) for hit in exact}
        shares.append(len(places & {(hit.segment, hit.row) for hit in found}) / len(places))
    return Recall(
        at_10=float(np.mean(shares)),
        num_queries=len(text_embeds),
        whose=whose,
        num_videos=index.version.num_videos,
    )


def caption_queries(index: SearchIndex) -> Float[Tensor, "num_texts embed_dim"]:
    """Embeddings of captions of the index, spread over it; none where it has none."""
    total = min(MAX_CAPTIONS, sum(s.num_captions for s in index.version.segments))
    step = max(1, total // NUM_QUERIES)
    chosen = [embed for _, embed in islice(index.captions(), 0, total, step)][:NUM_QUERIES]
    return torch.stack(chosen) if chosen else torch.empty(0, index.version.embed_dim)


def read_queries(path: Path) -> list[str]:
    """Sentences, one a line. Raises UserError for a file without any, or with what is none."""
    with open_text(path) as file:
        lines = [line.strip() for line in file if line.strip()]
    for number, line in enumerate(lines, start=1):
        if reason := caption_problem(line):
            raise UserError(f"queries {path}, sentence {number} {reason}")
    if not lines:
        raise UserError(f"queries {path} has no sentence in it; write one on each line")
    return lines
