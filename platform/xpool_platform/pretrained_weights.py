"""Weights of the towers that lie in an object store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from xpool.clip_names import check_clip_name
from xpool.config import ModelConfig
from xpool_platform.errors import UserError
from xpool_platform.locations import is_file, is_uri, local_file, readable


def check_towers(model: ModelConfig, *, with_weights: bool = True) -> None:
    """Raise UserError for towers or weights that are not known or not there.

    Without with_weights the pretrained weights, which a checkpoint of ours replaces, may be gone.
    """
    place = model.clip_pretrained
    try:
        check_clip_name(model, with_weights=with_weights and not is_uri(place))
        with readable(place):
            if with_weights and is_uri(place) and not is_file(place):
                raise UserError(
                    f"model.clip_pretrained {place!r} is not there; give a checkpoint file, or one "
                    f"of open_clip's tags of {model.clip_name}"
                )
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def with_local_weights(model: ModelConfig) -> Iterator[ModelConfig]:
    """The model's config with its weights on this machine, for the time of the block."""
    if not is_uri(model.clip_pretrained):
        yield model
        return
    with local_file(model.clip_pretrained) as path:
        yield replace(model, clip_pretrained=path)
