"""Index videos for search: python jobs/index.py --checkpoint RUN --videos FOLDER --out INDEX

Videos are a folder or URI of videos (with captions, where it has some), a file of captions, a
manifest (Parquet with video_id and uri), or a frame store; without --videos, the data of the
checkpoint's training, or of an experiment that is named first. The checkpoint is a run's name or
folder, a checkpoint's folder, or a .pth file of X-Pool's authors. An index that is there gets what
is new or changed; --remove ID takes videos out, --remove-missing True all that are not among the
given ones any more, --compact True writes it anew without them, --check True reads all of it.
"""

import sys

import source_roots  # noqa: F401  # first: it puts the packages below on the path
from command_line import option_value, parse, run_job, split_name
from xpool_platform.output_dir import resolve_output_dir
from xpool_platform.search.defaults import index_defaults


def main() -> None:
    """Parse, index, say what was done."""
    name, options = split_name(sys.argv[1:])
    default = index_defaults(
        option_value(options, "--checkpoint") or "",
        resolve_output_dir(option_value(options, "--output-dir") or ""),
        name=name,
        has_videos=bool(option_value(options, "--videos")),
    )
    config = parse(__doc__ or "", options, default)
    # Ray and torch take seconds to import: --help and a mistyped option do not wait for them
    from xpool_platform.console import Console  # noqa: PLC0415
    from xpool_platform.search.launch import run_index  # noqa: PLC0415

    console = Console()
    result = run_index(config, console)
    if config.check:
        return
    if result.bad:
        console.line(f"all that was left out: {result.errors_path}")
    console.line(
        f"{result.folder}: {result.version.num_videos:,} videos, version {result.version.version} "
        f"({result.num_added:,} added, {result.num_removed:,} taken out)"
    )
    if result.num_added:
        console.line(f'search: python jobs/search.py {result.folder} "a sentence"')
        console.line(f"serve:  python jobs/serve.py {result.folder}")


if __name__ == "__main__":
    run_job(main)
