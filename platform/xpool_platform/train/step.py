"""The loss of a global batch and its gradients, whatever the number of workers."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from xpool.loss import partial_contrastive_loss
from xpool.model import XPool
from xpool.similarity import similarity_matrix
from xpool_platform.data.plan import worker_bounds
from xpool_platform.train.collectives import gather_rows

Embeds = tuple[Float[Tensor, "num_own embed_dim"], Float[Tensor, "num_own num_frames embed_dim"]]
"""Of texts and of frames."""


def backward_in_slices(
    model: XPool,
    tokens: Int[Tensor, "num_own context_length"],
    frames: UInt8[Tensor, "num_own num_frames 3 height width"],
    *,
    micro_batch_size: int,
    num_pairs: int,
    rank: int,
    world_size: int,
) -> Float[Tensor, ""]:
    """What `global_batch_loss` and its backward pass do, with the towers' activations of at most
    micro_batch_size pairs in memory; gives the loss, and adds to the gradients.

    All pairs are embedded without gradients; the loss sends its gradients to the embeddings; then
    slice after slice is embedded again, with the same random numbers, and passes them on (Gao et
    al., 2021, "Scaling deep contrastive learning batch size under memory limited setup").
    """
    slices = [slice(i, i + micro_batch_size) for i in range(0, len(frames), micro_batch_size)]
    states = []
    parts = []
    with torch.no_grad():
        for part in slices:
            states.append(_random_state(frames.device))
            parts.append(_embeds(model, tokens[part], frames[part]))
    embeds = [torch.cat(kind).requires_grad_() for kind in zip(*parts, strict=True)]
    if not embeds:
        embeds = list(_no_embeds(model, frames))
    loss = loss_of_embeds(model, *embeds, num_pairs=num_pairs, rank=rank, world_size=world_size)
    loss.backward()
    after = _random_state(frames.device)
    for part, state in zip(slices, states, strict=True):
        _set_random_state(frames.device, state)
        again = _embeds(model, tokens[part], frames[part])
        learns = [i for i, kind in enumerate(again) if kind.requires_grad]
        grads = [embeds[i].grad for i in learns]
        torch.autograd.backward(
            [again[i] for i in learns], [g[part] for g in grads if g is not None]
        )
    _set_random_state(frames.device, after)
    return loss.detach()


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
    embeds = _embeds(model, tokens, frames) if len(frames) else _no_embeds(model, frames)
    return loss_of_embeds(model, *embeds, num_pairs=num_pairs, rank=rank, world_size=world_size)


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


def _embeds(model: XPool, tokens: Tensor, frames: Tensor) -> Embeds:
    return model.encode_text(tokens).float(), model.encode_frames(frames).float()


def _no_embeds(model: XPool, frames: Tensor) -> Embeds:
    """Fewer pairs than workers: nothing to encode, but the gathering needs every worker."""
    none = torch.zeros(0, frames.shape[1], model.embed_dim, device=frames.device)
    return none[:, 0].requires_grad_(), none.requires_grad_()


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def _set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
