"""The files of an index: which of them are it now, so that it is whole or the former one.

An index is a folder with `index.json`, which names its segments (folders of files that never
change), the rows that were taken out of them, and its model. It is replaced in one step, after all
that it names is on the disk; whatever it does not name is not there, and the next that writes
removes it.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cattrs
from filelock import FileLock, Timeout

from xpool_platform.errors import UserError
from xpool_platform.locations import absolute, is_uri

INDEX, LOCK = "index.json", ".lock"
SEGMENTS, STAGES, MODELS = "segments", "first_stages", "models"
CANDIDATES = "candidates.faiss"
"""A segment's lists of the first stage, where it has one."""

PART = ".part"
ENTRY = "segment.json"
"""What a segment says of itself, written last."""

ERRORS = "errors.parquet"
"""The videos that were left out, of the last job."""

LAYOUT = 1
"""Raised when the files of an index change their form."""

MIN_FREE_BYTES = 100 * 2**20
PIECE_BYTES = 2**22


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """A file as it was written."""

    num_bytes: int
    blake2b: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentEntry:
    """Videos that were written together."""

    name: str
    num_videos: int
    num_captions: int
    files: dict[str, FileEntry]
    first_stage: str = ""
    """The first stage whose candidates it has; empty: none."""

    removed: list[int] = field(default_factory=list)
    """Rows that were taken out, rising."""

    @property
    def num_present(self) -> int:
        """Videos that are still there."""
        return self.num_videos - len(self.removed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """How much of the exhaustive search two stages find."""

    at_10: float
    """Share of the ten best videos that are among the ten of two stages, from 0 to 1."""

    num_queries: int
    whose: str
    """What the queries were."""

    num_videos: int
    """Videos in the index when it was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexVersion:
    """An index as it was at a time."""

    version: int
    layout: int = LAYOUT
    fingerprint: str
    """Of the model."""

    model: str
    """Folder of the model's copy."""

    checkpoint: str
    """What the model was read from, for people."""

    num_frames: int
    embed_dim: int
    term_shapes: dict[str, list[int]]
    """Of the terms of one video."""

    segments: list[SegmentEntry]
    recall: Recall | None = None
    changed_at: float = 0.0
    """Seconds since 1970."""

    @property
    def num_videos(self) -> int:
        """Videos that can be found."""
        return sum(segment.num_present for segment in self.segments)


_converter = cattrs.Converter(forbid_extra_keys=True)


def index_folder(location: str, *, what: str = "index") -> Path:
    """The folder that a user means. Raises UserError for none or an object store."""
    if not location:
        raise UserError(f"{what} is empty; give the index's folder: --{what} INDEX")
    folder = absolute(location)
    if is_uri(folder):
        raise UserError(
            f"{what} {location!r} is an object store, and an index is mapped into memory; give a "
            "folder on a disk"
        )
    return Path(folder)


def read_version(folder: Path) -> IndexVersion:
    """The index in a folder. Raises UserError if there is none, or it is of another version."""
    try:
        content = (folder / INDEX).read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{folder} holds no index; make one: python jobs/index.py --checkpoint RUN --videos "
            f"FOLDER --out {folder}"
        ) from None
    except OSError as error:
        raise UserError(f"{folder / INDEX} cannot be read: {error.strerror}") from error
    try:
        said = json.loads(content)
        layout = said["layout"]
        if layout != LAYOUT:
            raise UserError(
                f"{folder} is an index of layout {layout}, and this version reads {LAYOUT}; make "
                "it anew with jobs/index.py"
            )
        return _converter.structure(said, IndexVersion)
    except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
        raise UserError(f"{folder / INDEX} is damaged ({error}); make the index anew") from error


def write_version(folder: Path, version: IndexVersion) -> IndexVersion:
    """Make this the index, in one step; gives it with the time."""
    version = replace(version, changed_at=time.time())
    content = json.dumps(asdict(version), indent=1).encode()
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=INDEX, suffix=PART)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, folder / INDEX)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(folder)
    return version


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """One job at a time writes an index.

    Raises UserError if another one writes, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = [path.name for path in folder.iterdir() if not _is_own(path.name)]
        if strangers and not (folder / INDEX).exists():
            raise UserError(
                f"out {str(folder)!r} has other files in it ({', '.join(sorted(strangers)[:3])}); "
                "give a new folder, or that of an index"
            )
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another job is writing the index {folder}; wait for its end") from None
    except OSError as error:
        raise UserError(f"out {str(folder)!r} cannot be written to: {error.strerror}") from error
    try:
        free = shutil.disk_usage(folder).free
        if free < MIN_FREE_BYTES:
            raise UserError(
                f"out {str(folder)!r} has {free / 2**20:.0f} MiB of space left, and an index needs "
                f"{MIN_FREE_BYTES / 2**20:.0f} at least; free some, or give another folder"
            )
        yield
    finally:
        lock.release()


_OWN = {INDEX, LOCK, SEGMENTS, STAGES, MODELS, ERRORS}


def _is_own(name: str) -> bool:
    # a job that was killed as it wrote leaves a part of its INDEX
    return name in _OWN or (name.startswith(INDEX) and name.endswith(PART))


def remove_unnamed(folder: Path) -> None:
    """Remove what no index names any more. Whoever has it open goes on reading it."""
    version = read_version(folder)
    named = {
        SEGMENTS: {segment.name for segment in version.segments},
        STAGES: {segment.first_stage for segment in version.segments},
        MODELS: {version.model},
    }
    for kind, names in named.items():
        if (folder / kind).is_dir():
            for path in (folder / kind).iterdir():
                if path.name not in names:
                    shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{INDEX}*{PART}"):
        path.unlink(missing_ok=True)


def entries_of(folder: Path) -> dict[str, FileEntry]:
    """All files of a folder."""
    entries = {}
    for path in sorted(folder.iterdir()):
        entries[path.name] = FileEntry(num_bytes=path.stat().st_size, blake2b=digest_of_file(path))
    return entries


def finish_folder(part: Path, folder: Path) -> None:
    """Give a folder that is written its name, in one step, once all of it is on the disk."""
    for path in (*part.iterdir(), part):
        _sync(path)
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)
    _sync(folder.parent)


def check_sizes(folder: Path, segment: SegmentEntry) -> None:
    """Raise UserError if a file of a segment is gone or cut short."""
    for name, entry in segment.files.items():
        path = folder / SEGMENTS / segment.name / name
        there = path.stat().st_size if path.is_file() else None
        if there != entry.num_bytes:
            has = "is gone" if there is None else f"has {there} of its {entry.num_bytes} bytes"
            raise UserError(f"{path} {has}; the index is damaged, make it anew")


def check_hashes(folder: Path, version: IndexVersion) -> int:
    """Read all segments; gives their bytes. Raises UserError for a file that has changed."""
    num_bytes = 0
    for segment in version.segments:
        check_sizes(folder, segment)
        for name, entry in segment.files.items():
            path = folder / SEGMENTS / segment.name / name
            if digest_of_file(path) != entry.blake2b:
                raise UserError(
                    f"{path} is not what was written: its hash differs; make the index anew"
                )
            num_bytes += entry.num_bytes
    return num_bytes


def digest_of_file(path: Path) -> str:
    """The hash by which a file is known."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def parse_segment(content: bytes) -> SegmentEntry:
    """What a segment says of itself. Raises ValueError."""
    try:
        return _converter.structure(json.loads(content), SegmentEntry)
    except (cattrs.BaseValidationError, AttributeError, TypeError) as error:
        raise ValueError(str(error)) from error


def segment_bytes(segment: SegmentEntry) -> bytes:
    """A segment's entry as a file."""
    values: dict[str, Any] = asdict(segment)
    return json.dumps(values, indent=1).encode()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
