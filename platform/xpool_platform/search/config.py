"""What an index is made of, how it is asked, and how it is served."""

from dataclasses import dataclass
from typing import Literal

from xpool_platform.config import ExperimentConfig
from xpool_platform.config_checks import at_least

Method = Literal["auto", "exhaustive", "two-stage"]
SplitName = Literal["", "train", "val", "test"]

MAX_RESULTS = 100
"""Videos that one query may ask for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexConfig(ExperimentConfig):
    """An index that is made or changed."""

    out: str = ""
    """The index's folder; one that is there gets what is new or changed."""

    checkpoint: str = ""
    """A run (its best), a checkpoint's folder, a .pth file of the authors; of an index that is
    there, by default its own model."""

    videos: str = ""
    """A folder or URI of videos, a file of captions, a manifest, or a frame store; empty: the data
    of the experiment, or of the checkpoint's training."""

    split: SplitName = ""
    """The split that is indexed; empty: all."""

    remove: tuple[str, ...] = ()
    """Ids of videos to take out, instead of adding any."""

    remove_missing: bool = False
    """Whether videos that are in the index and not among these are taken out."""

    compact: bool = False
    """Whether to write the index anew without what was taken out; nothing is decoded or encoded."""

    check: bool = False
    """Whether only to read all files of the index and compare them with their hashes."""

    thumbnail_side: int = 96
    """Pixels of the short side of the frames that are shown; 0: none are kept."""

    videos_per_segment: int = 98_304
    """Videos in one part of the index: what a build that was interrupted begins again with."""

    two_stage_from: int = 20_000
    """Videos of a segment from which it gets a first stage of candidates; 0: none does."""

    queries: str = ""
    """File of sentences, one a line, with which the recall of two stages is measured; empty:
    captions of the index."""

    def __post_init__(self) -> None:
        at_least("", self, 0, "thumbnail_side", "two_stage_from")
        at_least("", self, 1, "videos_per_segment")
        if self.remove and self.compact:
            raise ValueError("remove and compact are two jobs; take videos out, then compact")


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """A search from the command line."""

    index: str
    """The index's folder."""

    sentences: tuple[str, ...] = ()
    """What is looked for; `-`: a sentence on each line of the standard input."""

    k: int = 10
    """Videos that are shown of each."""

    video: str = ""
    """Instead of a sentence a video, by its id in the index or as a file: the captions that fit it
    best, and the videos that are like it."""

    method: Method = "auto"
    """`exhaustive`, `two-stage` (first candidates by frames, then the exact score), or what fits
    the size."""

    checkpoint: str = ""
    """Refuse an index that was not made with this checkpoint."""

    json: bool = False
    """Whether to print JSON instead of tables."""

    threads: int = 0
    """CPU threads; 0: all."""

    def __post_init__(self) -> None:
        _check_k(self.k)
        at_least("", self, 0, "threads")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceConfig:
    """A service on an index."""

    index: str
    """The index's folder."""

    host: str = "127.0.0.1"
    """Address to listen on; one that others reach needs a token."""

    port: int = 8080
    """Port to listen on; 0: any that is free."""

    token: str = ""
    """What a user has to show; empty: none on this machine's own addresses, else one that is made.
    XPOOL_SEARCH_TOKEN stands in for it, so that it is in no list of processes."""

    allowed_hosts: tuple[str, ...] = ()
    """Names by which browsers may ask for the service besides localhost and `host`."""

    num_replicas: int = 1
    """Processes that answer; each has the model."""

    num_shards: int = 1
    """Parts of the index, each searched by a process of its own: for several nodes."""

    cpus_per_replica: float = 0.0
    """CPUs that each of them reserves; it computes with max(1, this) threads. 0: the cluster's
    CPUs, shared evenly."""

    max_query_length: int = 500
    """Characters of a query; CLIP reads 77 tokens."""

    queries_per_minute: int = 600
    """Queries that one address may ask of a replica in a minute; more get status 429."""

    batch_size: int = 32
    """Queries that wait together are answered in one pass over the index, at most so many."""

    batch_wait_s: float = 0.005
    """Seconds that a query waits for others."""

    method: Method = "auto"
    """How is searched where a query does not say."""

    def __post_init__(self) -> None:
        at_least("", self, 1, "num_replicas", "num_shards", "max_query_length", "batch_size")
        at_least("", self, 1, "queries_per_minute")
        at_least("", self, 0, "batch_wait_s")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"port must be from 0 to 65535, not {self.port}")
        at_least("", self, 0, "cpus_per_replica")
        if self.token and len(self.token) < 16:
            raise ValueError("token must have at least 16 characters; leave it out to get one")


def _check_k(k: int) -> None:
    if not 1 <= k <= MAX_RESULTS:
        raise ValueError(f"k must be from 1 to {MAX_RESULTS}, not {k}")
