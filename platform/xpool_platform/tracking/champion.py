"""Whether a model is good enough to take the champion's place."""

from pathlib import Path

import pyarrow.parquet as pq

from xpool.bootstrap import paired_bootstrap
from xpool_platform.errors import UserError
from xpool_platform.result_files import (
    OtherQueriesError,
    ranks_in_order,
    read_ranked_queries,
    read_ranks,
)

METRIC = "t2v/R1"
MAX_P_VALUE = 0.05


def beats_champion(own: Path, champion: Path) -> tuple[bool, str]:
    """Whether t2v R@1 is significantly higher than the champion's on the same queries, and why.

    Both are `ranks.parquet` files; the test is a paired bootstrap. Of other queries nothing is
    known, so they do not beat it.
    """
    queries = pq.read_table(own, columns=["direction", "video_id", "caption"])
    ranks = read_ranks(own, queries)
    try:
        others = ranks_in_order(read_ranked_queries(champion), queries)
    except UserError:
        return False, "its ranks cannot be read"
    except OtherQueriesError:
        return False, "it was measured on other queries, so that the two cannot be compared"
    found = paired_bootstrap(ranks, others)[METRIC]
    interval = f"95 % interval {found.low:+.1f} to {found.high:+.1f}, p = {found.p_value:.2g}"
    words = f"t2v R@1 differs by {found.difference:+.1f} ({interval})"
    if found.difference > 0 and found.p_value < MAX_P_VALUE:
        return True, words
    return False, f"{words}, which is no significant gain"
