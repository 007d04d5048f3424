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
    indexed = (record["num_bytes"], record["modified_ns"])
    try:
        descriptor = _opened_copy(uri, indexed, copies) if is_uri(uri) else _opened(uri, indexed)
    except (UserError, OSError):
        descriptor = None
    if descriptor is None:
        raise HTTPException(
            HTTPStatus.GONE,
            "the file of this video is not there any more as it was indexed; run jobs/index.py "
            "again",
        )
    name = os.path.basename(uri)
    suffix = os.path.splitext(name)[1].lower()
    media_type = VIDEO_TYPES.get(suffix) or mimetypes.guess_type(name)[0]
    if media_type is None or not media_type.startswith("video/"):
        media_type = "application/octet-stream"
    return _OpenFileResponse(descriptor, name, media_type)


class _OpenFileResponse(FileResponse):
    """Sends a file that is open: its name may lead elsewhere by now."""

    def __init__(self, descriptor: int, name: str, media_type: str) -> None:
        super().__init__(
            f"/dev/fd/{descriptor}",
            stat_result=os.fstat(descriptor),
            media_type=media_type,
            filename=name,
            content_disposition_type="inline",
            headers={"cache-control": "private, max-age=0, must-revalidate"},
        )
        self._descriptor = descriptor

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._descriptor)


def _opened(path: str, indexed: tuple[int, int]) -> int | None:
    """A file that is open, if it is what was indexed: behind no link, of its size and time."""
    if os.path.realpath(path) != path:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == indexed:
        return descriptor
    os.close(descriptor)
    return None


def _opened_copy(uri: str, indexed: tuple[int, int], copies: Path) -> int | None:
    with readable(uri):
        if identity(uri) != indexed:
            return None
        return os.open(kept_copy(uri, copies), os.O_RDONLY)
