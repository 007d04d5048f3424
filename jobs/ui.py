"""Open MLflow's pages on the project's own store: make ui, or python jobs/ui.py [--port PORT].

They answer on this machine only.
"""

import argparse
import os
import sys
import webbrowser
from contextlib import suppress

import source_roots  # noqa: F401  # first: it puts the packages below on the path
from command_line import run_job
from xpool_platform.errors import UserError
from xpool_platform.output_dir import resolve_output_dir
from xpool_platform.tracking.ui import served_store


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5000, help="0: any that is free")
    parser.add_argument("--output-dir", default="", help="of the runs; else outputs")
    options = parser.parse_args()
    with served_store(resolve_output_dir(options.output_dir), options.port) as served:
        print(f"MLflow: {served.address} (Ctrl-C ends it)")
        pages = served.pages()
        for name, address in pages.items():
            print(f"  {name}: {address}")
        sys.stdout.flush()
        if _on_a_desktop():
            webbrowser.open(next(iter(pages.values()), served.address))
        with suppress(KeyboardInterrupt):
            served.process.wait()
            raise UserError(f"MLflow's server has ended; what it said is in {served.log}")


def _on_a_desktop() -> bool:
    """Whether somebody at this machine's own screen asks."""
    screen = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    return bool(screen) and sys.stdout.isatty() and "SSH_CONNECTION" not in os.environ


if __name__ == "__main__":
    run_job(main)
