"""The files that the service sends: videos of the index as they were indexed, and the page."""

import mimetypes
import os
import stat
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from fastapi.responses import FileResponse

from xpool_platform.errors import UserError
from xpool_platform.locations import identity, is_uri, kept_copy, readable

PAGE = Path(__file__).parents[1] / "page"
PAGE_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}

VIDEO_TYPES = {
    ".avi": "video/x-msvideo",
    ".flv": "video/x-flv",
    ".mkv": "video/x-matroska",
    ".ts": "video/mp2t",
    ".wmv": "video/x-ms-wmv",
}
"""Types that not every machine knows."""


def page_file(path: str) -> FileResponse:
    """A file of the page."""
    return FileResponse(PAGE / PAGE_FILES[path], headers={"cache-control": "no-cache"})


def video_file(record: dict[str, Any], copies: Path) -> FileResponse:
    """The file of a video of the index; one of an object store is copied into a folder.

    Raises HTTPException if there is none, or it is not the file that was indexed any more.
    """
    uri: str = record["uri"]
    if not uri:
        raise HTTPException(
            HTTPStatus.NOT_FOUND, "the index has no file for this video, only its frames"
        )
    try:
        with readable(uri):
            unchanged = _as_indexed(uri, record)
            path = kept_copy(uri, copies) if unchanged else Path(uri)
    except (UserError, FileNotFoundError):
        unchanged = False
    if not unchanged:
        raise HTTPException(
            HTTPStatus.GONE,
            "the file of this video is not there any more as it was indexed; run jobs/index.py "
            "again",
        )
    suffix = path.suffix.lower()
    media_type = VIDEO_TYPES.get(suffix) or mimetypes.guess_type(path.name)[0]
    if media_type is None or not media_type.startswith("video/"):
        media_type = "application/octet-stream"
    return FileResponse(
        path,
        media_type=media_type,
        filename=path.name,
        content_disposition_type="inline",
        headers={"cache-control": "private, max-age=0, must-revalidate"},
    )


def _as_indexed(uri: str, record: dict[str, Any]) -> bool:
    """Whether a file is what was indexed: no link to another one, of its size and time."""
    if not is_uri(uri) and not _is_plain_file(uri):
        return False
    return identity(uri) == (record["num_bytes"], record["modified_ns"])


def _is_plain_file(path: str) -> bool:
    return os.path.realpath(path) == path and stat.S_ISREG(os.lstat(path).st_mode)
