"""What a training needs besides its weights to go on as if nothing had happened."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist
from safetensors.torch import load
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from xpool.model import XPool
from xpool_platform.checkpoint import TrainingFile, copied
from xpool_platform.errors import UserError

OPTIMIZER, RANDOM = "optimizer", "random"
OF_THE_DEVICE = "fused", "foreach", "capturable"
"""Settings of the optimiser that may differ where the training goes on."""

SAID = "said"
"""Key of the JSON in the metadata of the safetensors file."""


@dataclass(kw_only=True, slots=True)
class Learner:
    """What changes with every step."""

    model: XPool
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR

    def taken(self, random: list[Tensor]) -> TrainingFile:
        """A copy of the optimiser, the schedule and each worker's random numbers."""
        state = self.optimizer.state_dict()
        tensors = {
            f"{OPTIMIZER}/{index}/{key}": value
            for index, values in state["state"].items()
            for key, value in values.items()
        }
        tensors |= {f"{RANDOM}/{rank}": value for rank, value in enumerate(random)}
        schedule = {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"}
        said = {
            "groups": state["param_groups"],
            "names": self._names(),
            "schedule": schedule,
        }
        return TrainingFile(copied(tensors), {SAID: json.dumps(said)})

    def put_back(self, content: pa.Buffer, rank: int, seed: int) -> None:
        """Put back what `taken` took; a worker that was not there then begins with the seed.

        The learning rates are those of this training, as far on in their schedule as the other was.
        Raises UserError if it was taken of a model with other parameters that learn.
        """
        raw = content.to_pybytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        said = json.loads(header["__metadata__"][SAID])
        if said["names"] != self._names():
            raise UserError("the checkpoint is of a training in which other parameters learn")
        tensors = load(raw)
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, *rest = name.split("/")
            if kind == OPTIMIZER:
                state.setdefault(int(rest[0]), {})[rest[1]] = tensor
        here = [{key: group[key] for key in OF_THE_DEVICE} for group in self.optimizer.param_groups]
        groups = [
            {**group, **own, "betas": tuple(group["betas"])}
            for group, own in zip(said["groups"], here, strict=True)
        ]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        rates = [float(rate) for rate in self.schedule.base_lrs]
        self.schedule.load_state_dict({**self.schedule.state_dict(), **said["schedule"]})
        self._learn_at(rates)
        if f"{RANDOM}/{rank}" in tensors:
            _set_random_state(tensors[f"{RANDOM}/{rank}"])
        else:
            torch.manual_seed(seed)

    def _learn_at(self, rates: list[float]) -> None:
        schedule = self.schedule
        schedule.base_lrs = list(rates)
        for group, rate, factor in zip(
            self.optimizer.param_groups, rates, schedule.lr_lambdas, strict=True
        ):
            group["initial_lr"] = rate
            group["lr"] = rate * factor(schedule.last_epoch)

    def _names(self) -> list[list[str]]:
        name_of: dict[Any, str] = {p: name for name, p in self.model.named_parameters()}
        return [[name_of[p] for p in group["params"]] for group in self.optimizer.param_groups]


def random_states(device: torch.device) -> list[Tensor]:
    """The state of each worker's random numbers, by rank; every worker has to call it."""
    parts = [torch.get_rng_state()]
    if device.type == "cuda":
        parts.append(torch.cuda.get_rng_state(device))
    own = torch.cat(parts).to(device)
    if not dist.is_initialized():
        return [own]
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, own)
    return gathered


def _set_random_state(state: Tensor) -> None:
    size = len(torch.get_rng_state())
    torch.set_rng_state(state[:size].clone())
    if len(state) > size and torch.cuda.is_available():
        torch.cuda.set_rng_state(state[size:].clone())
