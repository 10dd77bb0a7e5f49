"""Processes that train one network together, started by torchrun or accelerate launch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Every process draws the same batches and sub-networks from the seed and takes its share of each
    batch; the gradients are added up. So the result is that of one process, but for rounding.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def of_environment(cls) -> Ranks:
        """As torchrun and accelerate launch say it; alone without them."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def leads(self) -> bool:
        """Whether this is the process that reads, writes and reports."""
        return self.rank == 0

    def join(self, device: torch.device) -> None:
        """Connect to the others, if there are any: NCCL between GPUs, gloo between processors."""
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    def leave(self) -> None:
        """Disconnect from the others."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def agree(self, value: int, device: torch.device) -> int:
        """The leading process's value, everywhere."""
        shared = torch.tensor(value, device=device)
        self.broadcast([shared])
        return int(shared)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with the leading process's."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over all processes."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def add_up_gradients(self, network: nn.Module) -> None:
        """Add up gradients; a parameter that has none in any process keeps none."""
        if self.count == 1:
            return
        parameters = list(network.parameters())
        has = torch.tensor([float(p.grad is not None) for p in parameters])
        has = has.to(parameters[0].device)
        self.add_up([has])
        for parameter, somewhere in zip(parameters, has.tolist(), strict=True):
            if somewhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                self.add_up([parameter.grad])
