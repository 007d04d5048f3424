"""Search in a browser: make demo, or python jobs/demo.py [--checkpoint RUN] [--port 8080]

Indexes the videos that a run was tested on, once, and serves the page on this machine. Without
--checkpoint it is the run that was finished last. The index stays in the output folder, in
search/RUN-STEP, for jobs/search.py and jobs/serve.py.
"""

import argparse
import threading
from dataclasses import replace
from pathlib import Path

import source_roots  # noqa: F401  # first: it puts the packages below on the path
from command_line import run_job
from xpool_platform.checkpoint_files import find_checkpoint
from xpool_platform.output_dir import resolve_output_dir
from xpool_platform.search.config import ServiceConfig
from xpool_platform.search.defaults import index_defaults, last_run


def main() -> None:
    """Index unless that is done, then serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="", help="a run, a checkpoint or a .pth file")
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    parser.add_argument("--output-dir", default="", help="of the runs; else outputs")
    options = parser.parse_args()
    output_dir = resolve_output_dir(options.output_dir)
    checkpoint = find_checkpoint(options.checkpoint or last_run(output_dir), output_dir)
    config = index_defaults(checkpoint, output_dir)
    index = output_dir / "search" / _name(checkpoint)
    config = replace(
        config,
        checkpoint=checkpoint,
        out=str(index),
        split=config.eval.split,
        output_dir=str(output_dir),
    )
    # Ray and torch take seconds to import: --help and a mistyped option do not wait for them
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.runtime import ray_session  # noqa: PLC0415
    from xpool_platform.search.index_files import INDEX  # noqa: PLC0415
    from xpool_platform.search.launch import run_index  # noqa: PLC0415
    from xpool_platform.search.service.launch import service  # noqa: PLC0415

    with ray_session():
        if not (index / INDEX).exists():
            run_index(config, Console())
        with service(ServiceConfig(index=str(index), port=options.port)) as running:
            print(f"search: {running.address} (Ctrl-C ends it)", flush=True)
            threading.Event().wait()


def _name(checkpoint: str) -> str:
    """RUN-STEP of a run's checkpoint, else the name of a file or folder."""
    path = Path(checkpoint)
    run = path.parents[1].name if path.parent.name == "checkpoints" else ""
    return f"{run}-{path.name}" if run else path.stem


if __name__ == "__main__":
    run_job(main)
