"""decord behind the same call, for those who want its pixels.

It returns wrong frames without a word on clips cut by stream copy, ignores rotation, and may hang;
the guard ends it when it does.
"""

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from xpool_platform.data.video import (
    FrameSettings,
    KeepPicture,
    Kept,
    SampledVideo,
    VideoError,
    choose_frames,
    scaled_size,
    segment_bounds,
)


def decode_with_decord(
    path: str,
    settings: FrameSettings,
    start_s: float | None,
    end_s: float | None,
    keep: KeepPicture[Kept],
) -> SampledVideo[Kept]:
    """The frames of a segment, by `choose_frames`. Raises VideoError."""
    try:
        import decord  # noqa: PLC0415  # it has no wheel for every platform, and pyav needs it not
    except ImportError as error:
        raise VideoError("unsupported", "decord is not installed on this platform") from error

    try:
        reader = decord.VideoReader(path, num_threads=1)
        times = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0].astype(np.float64)
        shown = np.maximum.accumulate(times - times[0])
        chosen = choose_frames(shown, settings, start_s, end_s)
        pictures = reader.get_batch(chosen).asnumpy()
    except (decord.DECORDError, IndexError) as error:
        reason = str(error).splitlines()[0].rsplit("] ", 1)[-1]
        raise VideoError("damaged", reason or "decord gives no reason") from error
    width, height = scaled_size(pictures.shape[2], pictures.shape[1], settings.short_side)
    scaler = VideoReformatter()
    frames = [
        keep(
            scaler.reformat(
                av.VideoFrame.from_ndarray(picture, format="rgb24"),
                width,
                height,
                interpolation="BICUBIC",
                threads=1,
            ).to_ndarray()
        )
        for picture in pictures
    ]
    start, end = segment_bounds(shown, start_s, end_s)
    return SampledVideo(frames=frames, times_s=shown[chosen], duration_s=end - start)
