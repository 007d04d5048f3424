"""The process that decodes, run by `decode_guard`: requests on stdin, frames on stdout.

A request is a line of JSON. A reply is a line of JSON and, after success, the bytes of the frames,
as JPEG files where that is asked for, and of their times. The kernel ends the process at a
request's deadline (SIGALRM at its default), whatever the decoder is doing, and also when the parent
is long gone.
"""

import json
import os
import resource
import signal
import stat
import sys
from typing import Any, BinaryIO

import numpy as np
import simplejpeg

from xpool_platform.data.decord_decoder import decode_with_decord
from xpool_platform.data.pyav_decoder import decode_with_pyav
from xpool_platform.data.sandbox import give_up_rights
from xpool_platform.data.video import (
    FrameSettings,
    KeepPicture,
    Kept,
    SampledVideo,
    VideoError,
)

DECODERS = {"pyav": decode_with_pyav, "decord": decode_with_decord}


def decode(
    path: str,
    settings: FrameSettings,
    start_s: float | None,
    end_s: float | None,
    keep: KeepPicture[Kept],
) -> SampledVideo[Kept]:
    """What is kept of a regular file's frames, by the settings' decoder. Raises VideoError."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError("not-a-video", error.strerror or str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("not-a-video", "it is not a regular file")
    if status.st_size == 0:
        raise VideoError("not-a-video", "it is empty")
    try:
        return DECODERS[settings.decoder](path, settings, start_s, end_s, keep)
    except MemoryError as error:
        raise VideoError("too-large", "decoding needs more memory than allowed") from error


def main() -> None:
    """Serve requests until stdin ends."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not mix in
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    give_up_rights()
    for line in sys.stdin:
        _serve(json.loads(line), replies)


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    settings = FrameSettings(**request["settings"])
    shapes: set[tuple[int, ...]] = set()

    def keep(picture: np.ndarray) -> memoryview:
        shapes.add(picture.shape)
        if len(shapes) > 1:
            raise VideoError("unsupported", "the proportions of its frames change")
        if not request["as_jpeg"]:
            return picture.data
        quality = settings.jpeg_quality
        return memoryview(simplejpeg.encode_jpeg(picture, quality=quality, colorsubsampling="420"))

    video = decode(request["path"], settings, request["start_s"], request["end_s"], keep)
    reply = {
        "sizes": [frame.nbytes for frame in video.frames],
        "shape": next(iter(shapes)),
        "duration_s": video.duration_s,
    }
    return reply, [*video.frames, video.times_s.astype("<f8")]


def _serve(request: dict[str, Any], replies: BinaryIO) -> None:
    signal.setitimer(signal.ITIMER_REAL, request["deadline_s"])
    reply: dict[str, Any]
    parts: list[Any] = []
    try:
        reply, parts = _answer(request)
    except VideoError as error:
        reply = {"kind": error.kind, "reason": error.reason}
    except Exception as error:  # noqa: BLE001  # whatever a decoder raises is about this one video
        reply = {"kind": "damaged", "reason": f"{type(error).__name__}: {error}"[:300]}
    signal.setitimer(signal.ITIMER_REAL, 0)
    replies.write(json.dumps(reply).encode() + b"\n")
    for part in parts:
        replies.write(part)
    replies.flush()


if __name__ == "__main__":
    main()
