"""Which towers there are, without building them.

open_clip takes seconds to import, so it is imported only when it is asked.
"""

import difflib
from pathlib import Path

from xpool.config import ModelConfig
from xpool.tiny import TINY, TINY_CONFIG


def check_clip_name(config: ModelConfig, *, with_weights: bool = True) -> None:
    """Raise ValueError, with the nearest names, if open_clip knows no such towers or weights.

    Without with_weights the pretrained weights, which a checkpoint of ours replaces, may be gone.
    """
    name, pretrained = config.clip_name, config.clip_pretrained if with_weights else ""
    if name == TINY and not pretrained:
        return
    import open_clip  # noqa: PLC0415

    known = [TINY, *open_clip.list_models()]
    if name not in known:
        raise ValueError(
            f"model.clip_name {name!r} is not known to open_clip{_nearest(name, known)}"
        )
    if not pretrained or Path(pretrained).is_file():
        return
    tags = [] if name == TINY else open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags:
        raise ValueError(
            f"model.clip_pretrained {pretrained!r} is neither a checkpoint file nor a pretrained "
            f"tag of {name}; its tags: {', '.join(tags) or 'none'}"
        )


def clip_image_size(config: ModelConfig) -> int:
    """Pixels a side of what the image tower takes, known without building it."""
    if config.clip_name == TINY:
        return int(TINY_CONFIG["vision_cfg"]["image_size"])
    import open_clip  # noqa: PLC0415

    size = open_clip.get_model_config(config.clip_name)["vision_cfg"]["image_size"]
    return size if isinstance(size, int) else size[0]


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""
