"""The process group of the workers, over the network by which Ray reaches their nodes."""

import os
import socket
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

GLOO, NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"


def use_node_interface() -> str:
    """Have gloo and NCCL use the interface with Ray's address of this node; gives its name.

    Left to itself gloo takes the address that the host's name resolves to, which is 127.0.0.1 on
    many. A variable that is set already is left alone.
    """
    name = interface_of(ray.util.get_node_ip_address())
    if name:
        os.environ.setdefault(GLOO, name)
        os.environ.setdefault(NCCL, f"={name}")  # else NCCL takes all that begin with the name
    return name


def interface_of(address: str) -> str:
    """The interface that carries an IP address; empty if none does, as behind NAT."""
    if address.startswith("127."):  # all of them are this host, and one is listed
        address = "127.0.0.1"
    families = socket.AF_INET, socket.AF_INET6
    for name, carried in psutil.net_if_addrs().items():
        if any(a.family in families and a.address.split("%")[0] == address for a in carried):
            return name
    return ""


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(use_node_interface)
        super().on_start(worker_group, backend_config)


@dataclass
class NodeTorchConfig(TorchConfig):
    """Ray's configuration of torch, with the interface found on each node for itself."""

    @property
    def backend_cls(self) -> type[_Backend]:
        """What sets the process group up."""
        return _Backend
