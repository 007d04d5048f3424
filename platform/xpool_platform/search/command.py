"""A search without a service: open the index, encode, answer."""

import time

from xpool_platform.checkpoint_files import find_checkpoint
from xpool_platform.config import ExperimentConfig
from xpool_platform.data.plain_text import caption_problem, shown
from xpool_platform.errors import UserError
from xpool_platform.output_dir import resolve_output_dir
from xpool_platform.search.answers import CaptionsAnswer, QueryAnswer, SearchAnswer, SimilarAnswer
from xpool_platform.search.config import SearchConfig
from xpool_platform.search.index_files import index_folder
from xpool_platform.search.indexed_model import (
    fingerprint_of,
    load_any_model,
    with_trained_settings,
)
from xpool_platform.search.searcher import Searcher, video_location


def search_by_text(config: SearchConfig, sentences: list[str]) -> SearchAnswer:
    """The videos that fit each sentence best. Raises UserError for what is no sentence."""
    for sentence in sentences:
        if reason := caption_problem(sentence):
            raise UserError(f"the sentence {shown(sentence)} {reason}")
    searcher = _searcher(config)
    start = time.perf_counter()
    embeds = searcher.encode(sentences)
    found = searcher.search(embeds, config.k, config.method)
    took_ms = 1000 * (time.perf_counter() - start)
    return SearchAnswer(
        num_videos=searcher.index.version.num_videos,
        method=searcher.index.method_for(config.method),
        took_ms=took_ms,
        answers=[
            QueryAnswer(query=sentence, results=results)
            for sentence, results in zip(sentences, found, strict=True)
        ],
    )


def search_by_example(config: SearchConfig) -> tuple[CaptionsAnswer, SimilarAnswer]:
    """The captions that fit a video best, and the videos like it.

    Raises UserError if the video is neither in the index nor a file that can be decoded.
    """
    searcher = _searcher(config)
    found = searcher.by_itself(config.video)
    mean, terms = found or searcher.example(video_location(config.video))
    captions = searcher.captions_for(terms, config.k)
    similar = searcher.similar(mean, config.k, without=config.video)
    return (
        CaptionsAnswer(video_id=config.video, results=captions),
        SimilarAnswer(video_id=config.video, results=similar),
    )


def _searcher(config: SearchConfig) -> Searcher:
    searcher = Searcher(index_folder(config.index), num_threads=config.threads)
    if config.checkpoint:
        checkpoint = find_checkpoint(config.checkpoint, resolve_output_dir())
        asked = with_trained_settings(ExperimentConfig(), checkpoint)
        if fingerprint_of(load_any_model(asked, checkpoint), asked) != searcher.fingerprint:
            raise UserError(
                f"the index {config.index} was not made with checkpoint {config.checkpoint} but "
                f"with {searcher.index.version.checkpoint}; leave --checkpoint out, or make an "
                "index with it"
            )
    return searcher
