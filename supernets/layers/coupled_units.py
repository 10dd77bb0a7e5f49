"""Units whose weights lie in several tensors: heads, neurons, channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """A tensor's axis that holds the units side by side; `leaves` marks weights leaving them.

    gene: of the size that says how many of them are used, where that is not the units'.
    """

    tensor: Tensor
    axis: int
    leaves: bool = False
    gene: str | None = None


@dataclass(frozen=True)
class Units:
    """Interchangeable units (heads, neurons): permuting all parts alike changes nothing.

    gene: of the size that says how many are used, the first ones; several units may share it.
    """

    gene: str
    count: int
    parts: tuple[Part, ...]


def written_by(*modules: nn.Module | None) -> list[Part]:
    """What layers and norms have of the units that they put out, statistics included."""
    tensors = [t for m in modules if m is not None for t in (*m.parameters(), *m.buffers())]
    return [Part(tensor, 0) for tensor in tensors if tensor.ndim]


def read_by(layer: nn.Conv2d | nn.Linear) -> Part:
    """The inputs of a layer, through which its units are left."""
    return Part(layer.weight, 1, leaves=True)


def gate_gradient(units: Units) -> Tensor:
    """Derivative of the loss by a gate on each unit, from the parameters' gradients, `(count,)`."""
    total = torch.zeros(units.count)
    for part in units.parts:
        if part.leaves:
            assert part.tensor.grad is not None
            product = (part.tensor.detach() * part.tensor.grad).movedim(part.axis, 0)
            total += product.reshape(units.count, -1).sum(dim=1).cpu()
    return total


def permute(units: Units, order: Tensor) -> None:
    """Put the units in another order, in place, in every part."""
    with torch.no_grad():
        for part in units.parts:
            split = part.tensor.unflatten(part.axis, (units.count, -1))
            ordered = split.index_select(part.axis, order.to(part.tensor.device))
            part.tensor.copy_(ordered.flatten(part.axis, part.axis + 1))
