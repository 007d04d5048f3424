"""The loss of a global batch, whatever the number of workers."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from xpool.loss import partial_contrastive_loss
from xpool.model import XPool
from xpool.similarity import similarity_matrix
from xpool_platform.data.plan import worker_bounds
from xpool_platform.train.collectives import gather_rows


def global_batch_loss(
    model: XPool,
    tokens: Int[Tensor, "num_own context_length"],
    frames: UInt8[Tensor, "num_own num_frames 3 height width"],
    *,
    num_pairs: int,
    rank: int,
    world_size: int,
) -> Float[Tensor, ""]:
    """This worker's addend to the loss of the global batch.

    The worker scores its texts against all videos and all texts against its videos. Summed over
    the workers, the losses and the gradients are those of one worker with the whole batch.
    """
    if len(frames):
        own_texts = model.encode_text(tokens).float()
        own_frames = model.encode_frames(frames).float()
    else:  # fewer pairs than workers: nothing to encode, but the gathering needs every worker
        none = torch.zeros(0, frames.shape[1], model.embed_dim, device=frames.device)
        own_texts, own_frames = none[:, 0].requires_grad_(), none.requires_grad_()
    return loss_of_embeds(
        model, own_texts, own_frames, num_pairs=num_pairs, rank=rank, world_size=world_size
    )


def loss_of_embeds(
    model: XPool,
    own_texts: Float[Tensor, "num_own embed_dim"],
    own_frames: Float[Tensor, "num_own num_frames embed_dim"],
    *,
    num_pairs: int,
    rank: int,
    world_size: int,
) -> Float[Tensor, ""]:
    """The same from embeddings, as frozen towers leave them once and for all."""
    bounds = [worker_bounds(num_pairs, r, world_size) for r in range(world_size)]
    sizes = [stop - first for first, stop in bounds]
    # the towers may run in bfloat16; what follows is exact in float32
    with torch.autocast(own_frames.device.type, enabled=False):
        texts, videos = gather_rows(own_texts, sizes), gather_rows(own_frames, sizes)
        rows = similarity_matrix(own_texts, model.pooling(own_texts, videos))
        if world_size == 1:
            columns = rows
        else:
            columns = similarity_matrix(texts, model.pooling(texts, own_frames))
        first_pair = bounds[rank][0]
        return partial_contrastive_loss(rows, columns, model.logit_scale, first_pair=first_pair)
