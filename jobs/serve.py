"""Serve an index: python jobs/serve.py INDEX [--port 8080]

The page and its API answer on this machine only, unless --host says otherwise: then a token is
needed, which is printed. /openapi.json says what there is to ask. Another version of the index,
made by jobs/index.py meanwhile, is served as soon as it is there.
"""

import sys
import threading

import source_roots  # noqa: F401  # first: it puts the packages below on the path
from command_line import parse_options, run_job, split_positionals
from xpool_platform.errors import UserError
from xpool_platform.search.config import ServiceConfig


def main() -> None:
    """Serve until Ctrl-C."""
    words, options = split_positionals(sys.argv[1:], ServiceConfig(index=""))
    if len(words) > 1:
        raise UserError(f"one index is served at a time, not {' and '.join(words)}")
    example = ServiceConfig(index=words[0] if words else "")
    config = parse_options(__doc__ or "", options, example)
    # Ray and torch take seconds to import: --help and a mistyped option do not wait for them
    from xpool_platform.runtime import ray_session  # noqa: PLC0415
    from xpool_platform.search.index_files import index_folder, read_version  # noqa: PLC0415
    from xpool_platform.search.service.launch import service  # noqa: PLC0415

    read_version(index_folder(config.index))
    with ray_session(), service(config) as running:
        print(f"search: {running.address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    run_job(main)
