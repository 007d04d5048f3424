"""One global batch over the workers: embeddings gathered with their gradients.

Without a process group everything here is the identity, so that one worker runs the same code.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

T = TypeVar("T")


def gather_rows(
    own: Float[Tensor, "num_own ..."], sizes: list[int]
) -> Float[Tensor, "num_all ..."]:
    """The rows of all workers, in the order of ranks; sizes[r] is the number of worker r's rows.

    The gradient of a worker's rows is the sum of what all workers' losses send to them.
    """
    if not dist.is_initialized():
        return own
    gathered = _GatherRows.apply(own, sizes)
    assert isinstance(gathered, Tensor)
    return gathered


def from_rank_zero(value: T) -> T:
    """What rank 0 gives, on every worker."""
    if not dist.is_initialized():
        return value
    told: list[Any] = [value]
    dist.broadcast_object_list(told)
    given: T = told[0]
    return given


def sum_gradients(
    parameters: Iterable[nn.Parameter], scalars: Float[Tensor, " num_scalars"]
) -> Float[Tensor, " num_scalars"]:
    """Replace each gradient by its sum over the workers; return the sums of their scalars."""
    scalars = scalars.detach()
    if not dist.is_initialized():
        return scalars
    parameters = [p for p in parameters if p.requires_grad]
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([*(grad.reshape(-1) for grad in grads), scalars])
    dist.all_reduce(flat)
    *summed, scalars = flat.split([*(grad.numel() for grad in grads), len(scalars)])
    for parameter, grad in zip(parameters, summed, strict=True):
        parameter.grad = grad.view_as(parameter)
    return scalars


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own: Tensor, sizes: list[int]) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.sizes = sizes
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        grad = grad.contiguous()
        dist.all_reduce(grad)
        first = sum(ctx.sizes[: dist.get_rank()])
        return grad[first : first + ctx.sizes[dist.get_rank()]], None
