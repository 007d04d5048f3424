"""Search an index: python jobs/search.py INDEX "a dog catches a frisbee" ["another" ...]

Prints the ten best videos with scores and the moments that the sentence attends to most. `-` reads
sentences from the standard input, one a line. --video ID_OR_FILE asks by example instead: the
captions that fit the video best, and the videos that are like it.
"""

import sys

import source_roots  # noqa: F401  # first: it puts the packages below on the path
from command_line import parse_options, run_job, split_positionals
from xpool_platform.errors import UserError
from xpool_platform.search.config import SearchConfig


def main() -> None:
    """Parse, search, print."""
    words, options = split_positionals(sys.argv[1:], SearchConfig(index=""))
    example = SearchConfig(index=words[0] if words else "", sentences=tuple(words[1:]))
    config = parse_options(__doc__ or "", options, example)
    if words[1:] and config.sentences != tuple(words[1:]):
        raise UserError("sentences are given twice; leave --sentences out")
    if not config.index:
        raise UserError('index is empty; name one: python jobs/search.py INDEX "a sentence"')
    sentences = _sentences(config)
    if bool(sentences) == bool(config.video):
        raise UserError(
            'give one sentence or more, or a video: python jobs/search.py INDEX "a sentence", or '
            "python jobs/search.py INDEX --video ID_OR_FILE"
        )
    # torch takes seconds to import: --help and a mistyped option do not wait for it
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.search.command import search_by_example, search_by_text  # noqa: PLC0415
    from xpool_platform.search.tables import print_example, print_search  # noqa: PLC0415

    if config.video:
        captions, similar = search_by_example(config)
        if config.json:
            print("\n".join(answer.model_dump_json() for answer in (captions, similar)))
        else:
            print_example(captions, similar, Console())
        return
    answer = search_by_text(config, sentences)
    if config.json:
        print(answer.model_dump_json())
    else:
        print_search(answer, Console())


def _sentences(config: SearchConfig) -> list[str]:
    lines = [line.strip() for line in sys.stdin] if "-" in config.sentences else []
    given = [sentence.strip() for sentence in config.sentences if sentence != "-"]
    return [sentence for sentence in (*given, *lines) if sentence]


if __name__ == "__main__":
    run_job(main)
