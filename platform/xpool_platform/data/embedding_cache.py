"""Embeddings of frozen towers beside the frames: all stored frames of a video, and its captions.

They lie in the frame store, below the fingerprint of the towers that made them. A file is written
whole or not at all, as the frames are.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xpool_platform.errors import UserError
from xpool_platform.locations import files_below, read_whole, write_whole

EMBEDS = "embeds"
EMBEDDING = "embedding"


def with_embeds_uris(videos: pa.Table, towers: str) -> pa.Table:
    """Decoded videos with the columns `frame_embeds_uri` and `text_embeds_uri`.

    `towers` is the fingerprint of the towers.
    """
    frames, texts = [], []
    for row in videos.select(["frames_uri", "captions"]).to_pylist():
        store, shard, name = row["frames_uri"].rsplit("/", 2)
        folder = f"{store}/{EMBEDS}/{towers}"
        digest = hashlib.blake2b(json.dumps(row["captions"]).encode(), digest_size=16).hexdigest()
        frames.append(f"{folder}/{shard}/{name.removesuffix('.parquet')}.{EMBEDDING}")
        texts.append(f"{folder}/texts-{digest[:2]}/{digest}.{EMBEDDING}")
    videos = videos.append_column("frame_embeds_uri", pa.array(frames, pa.string()))
    return videos.append_column("text_embeds_uri", pa.array(texts, pa.string()))


def missing_embeds(videos: pa.Table) -> pa.Table:
    """The videos whose frames or captions have no embeddings yet."""
    columns = ("frame_embeds_uri", "text_embeds_uri")
    wanted = [videos[column].to_pylist() for column in columns]
    folders = {uri.rsplit("/", 2)[0] for uris in wanted for uri in uris}
    there = {info.base_name for folder in folders for info in files_below(folder) if info.size}
    return videos.filter(
        pa.array(
            [
                any(uri.rsplit("/", 1)[1] not in there for uri in uris)
                for uris in zip(*wanted, strict=True)
            ],
            pa.bool_(),
        )
    )


def write_embeds(uri: str, embeds: Float[np.ndarray, "num_rows embed_dim"]) -> None:
    """Write embeddings, whole or not at all."""
    write_whole(uri, save({EMBEDS: np.ascontiguousarray(embeds, np.float32)}))


def read_embeds(
    uri: str, indices: Sequence[int] | None = None
) -> Float[np.ndarray, "num_rows embed_dim"]:
    """All embeddings of a file, or those of these rows. Raises UserError if it is damaged."""
    try:
        embeds: np.ndarray = load(read_whole(uri).to_pybytes())[EMBEDS]
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(
            f"the embeddings in {uri} cannot be read ({error}); remove that file and run again"
        ) from error
    return embeds if indices is None else embeds[list(indices)]
