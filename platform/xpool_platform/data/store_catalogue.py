"""Which frame stores there are, who uses them, and which nobody does any more."""

import json
import time
from dataclasses import asdict, dataclass

from pyarrow import fs as pafs

from xpool_platform.data.video import FRAMES_VERSION, FrameSettings
from xpool_platform.errors import UserError
from xpool_platform.locations import (
    PART,
    files_below,
    filesystem_of,
    is_file,
    read_whole,
    remove_folder,
    write_whole,
)

SETTINGS = "settings.json"
USES = "uses"
DAY_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreEntry:
    """One frame store below a location."""

    location: str
    settings: str
    """What its frames are, in words."""

    num_videos: int
    num_bytes: int
    experiments: list[str]
    """Those that have used it."""

    idle_days: float
    """Days since it was last used or written to."""

    is_current: bool
    """Whether this version of the project still uses such frames."""


def open_store(frames_dir: str, settings: FrameSettings, experiment: str) -> str:
    """The store of these settings below a location, with a note that an experiment uses it."""
    store = f"{frames_dir}/{settings.fingerprint()}"
    about = {"version": FRAMES_VERSION, **asdict(settings)}
    write_whole(f"{store}/{SETTINGS}", json.dumps(about, indent=2).encode())
    use = {"experiment": experiment, "used_at": time.time()}
    write_whole(f"{store}/{USES}/{experiment or 'unnamed'}.json", json.dumps(use).encode())
    return store


def is_store(location: str) -> bool:
    """Whether this is the folder of a frame store, and no folder with a file of such a name.

    Raises OSError where it cannot be told.
    """
    path = f"{location}/{SETTINGS}"
    try:
        about = json.loads(read_whole(path).to_pybytes()) if is_file(path) else None
    except ValueError:
        return False
    return isinstance(about, dict) and {"version", "decoder", "min_frames"} <= about.keys()


def read_settings(store: str) -> FrameSettings:
    """The settings of a store's frames. Raises UserError if this version makes no such frames."""
    try:
        about = json.loads(read_whole(f"{store}/{SETTINGS}").to_pybytes())
        if about.pop("version") == FRAMES_VERSION:
            return FrameSettings(**about)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{store} is no frame store: {error}") from error
    raise UserError(f"the frames in {store} are of an older version; decode the videos again")


def list_stores(frames_dir: str) -> list[StoreEntry]:
    """All stores below a location, the last used first."""
    filesystem, path = filesystem_of(frames_dir)
    selector = pafs.FileSelector(path, allow_not_found=True)
    folders = [info for info in filesystem.get_file_info(selector) if not info.is_file]
    entries = [_entry(f"{frames_dir}/{info.base_name}") for info in folders]
    return sorted((e for e in entries if e is not None), key=lambda entry: entry.idle_days)


def prune_stores(frames_dir: str, unused_days: float) -> list[StoreEntry]:
    """Remove stores of older versions and those not used for so many days; gives them.

    What interrupted writers left behind in the others is removed as well, a day later.
    """
    removed = []
    for entry in list_stores(frames_dir):
        if entry.is_current and entry.idle_days < unused_days:
            _remove_parts(entry.location)
        else:
            remove_folder(entry.location)
            removed.append(entry)
    return removed


def _entry(store: str) -> StoreEntry | None:
    try:
        about = json.loads(read_whole(f"{store}/{SETTINGS}").to_pybytes())
        settings = (
            f"{about['decoder']}, {about['frames_per_second']:g}/s, from {about['min_frames']}, "
            f"{about['short_side']} px, JPEG {about['jpeg_quality']}"
        )
    except (OSError, ValueError, KeyError):  # no store
        return None
    files = files_below(store)
    videos = [info for info in files if info.base_name.endswith(".parquet")]
    uses = [
        json.loads(read_whole(f"{store}/{USES}/{info.base_name}").to_pybytes())
        for info in files
        if info.path.endswith(f"/{USES}/{info.base_name}")
    ]
    last = max([use["used_at"] for use in uses] + [info.mtime_ns / 1e9 for info in videos])
    return StoreEntry(
        location=store,
        settings=settings,
        num_videos=len(videos),
        num_bytes=sum(info.size for info in files),
        experiments=sorted(use["experiment"] for use in uses),
        idle_days=(time.time() - last) / DAY_S,
        is_current=about["version"] == FRAMES_VERSION,
    )


def _remove_parts(store: str) -> None:
    filesystem, _ = filesystem_of(store)
    for info in files_below(store):
        if info.base_name.endswith(PART) and time.time() - info.mtime_ns / 1e9 > DAY_S:
            filesystem.delete_file(info.path)
