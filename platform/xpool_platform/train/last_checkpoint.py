"""Where an interrupted training goes on: the newest of its checkpoints that is whole."""

from dataclasses import dataclass

from xpool_platform.checkpoint_files import (
    DamagedCheckpointError,
    check_whole,
    checkpoints_below,
)
from xpool_platform.errors import UserError


@dataclass(frozen=True, slots=True)
class LastCheckpoint:
    """The newest whole checkpoint of a run."""

    location: str
    """Empty: none was ever written."""

    step: int
    """Steps done; 0 if none was ever written."""

    damaged: list[str]
    """What is wrong with newer ones."""


def last_whole_checkpoint(checkpoints: str) -> LastCheckpoint:
    """Raises UserError if there are checkpoints and none of them is whole."""
    damaged = []
    for step, location in reversed(checkpoints_below(checkpoints).items()):
        try:
            check_whole(location)
        except DamagedCheckpointError as error:
            damaged.append(str(error))
        else:
            return LastCheckpoint(location, step, damaged)
    if damaged:
        raise UserError(
            f"no checkpoint in {checkpoints} is whole: {'; '.join(damaged)}; put one of them back "
            "from a copy, or train under another --run-name"
        )
    return LastCheckpoint("", 0, [])
