"""A writer of one version of an index after the other, for tests that kill it: FOLDER."""

import sys
from pathlib import Path

from xpool_platform.search.index_files import (
    INDEX,
    IndexVersion,
    SegmentEntry,
    read_version,
    write_version,
    writing,
)

MANY = 300
"""Removed rows, so that a version is no single page of a disk."""


def version_of(number: int) -> IndexVersion:
    """All of it says which version it is."""
    segment = SegmentEntry(
        name=f"segment {number}",
        num_videos=number + MANY,
        num_captions=number,
        files={},
        removed=list(range(number, number + MANY)),
    )
    return IndexVersion(
        version=number,
        fingerprint=f"fingerprint {number}",
        model=f"model {number}",
        checkpoint=f"checkpoint {number}",
        num_frames=12,
        embed_dim=512,
        term_shapes={"keys": [1, number]},
        segments=[segment],
    )


def write_on(folder: Path) -> None:
    """Until it is killed."""
    with writing(folder):
        number = read_version(folder).version if (folder / INDEX).exists() else 0
        while True:
            number += 1
            write_version(folder, version_of(number))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    write_on(Path(sys.argv[1]))
