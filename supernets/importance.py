"""First-order Taylor importance of units and blocks, and putting the important ones first.

The change of the loss when a unit is gated off is, to first order, the derivative by that gate,
which is the sum of weight times gradient over the weights that leave the unit (Molchanov et al.
2019, "Importance Estimation for Neural Network Pruning", section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from supernets.base import SuperNetwork
    from supernets.data import Batch


@dataclass(frozen=True)
class Part:
    """A tensor's axis that holds the units side by side; `leaves` marks weights leaving them."""

    tensor: Tensor
    axis: int
    leaves: bool = False


@dataclass(frozen=True)
class Units:
    """Interchangeable units (heads, neurons): permuting all parts alike changes nothing."""

    name: str
    count: int
    parts: tuple[Part, ...]


def gate_gradient(units: Units) -> Tensor:
    """Derivative of the loss by a gate on each unit, from the parameters' gradients, `(count,)`."""
    total = torch.zeros(units.count)
    for part in units.parts:
        if part.leaves:
            assert part.tensor.grad is not None
            product = (part.tensor.detach() * part.tensor.grad).movedim(part.axis, 0)
            total += product.reshape(units.count, -1).sum(dim=1).cpu()
    return total


def _branch_gradient(parameters: Sequence[Tensor]) -> float:
    products = [(p.detach() * p.grad).sum() for p in parameters if p.grad is not None]
    return float(torch.stack(products).sum())


def permute(units: Units, order: Tensor) -> None:
    """Put the units in another order, in place, in every part."""
    with torch.no_grad():
        for part in units.parts:
            split = part.tensor.unflatten(part.axis, (units.count, -1))
            ordered = split.index_select(part.axis, order.to(part.tensor.device))
            part.tensor.copy_(ordered.flatten(part.axis, part.axis + 1))


def order_by_importance(network: SuperNetwork, batches: Iterable[Batch]) -> None:
    """Put heads, neurons and channels in falling importance and renew the block order.

    The full network computes the same function as before. Batches should be training data, where
    the network is.
    """
    network.activate({})
    units = network.units()
    unit_scores = [torch.zeros(group.count) for group in units]
    block_scores = {gene: torch.zeros(len(order)) for gene, order in network.block_order.items()}
    network.eval()
    for batch in batches:
        network.zero_grad(set_to_none=True)
        F.cross_entropy(network(**batch.inputs), batch.labels).backward()
        for score, group in zip(unit_scores, units, strict=True):
            score += gate_gradient(group).abs()
        for gene, score in block_scores.items():
            for index in range(len(score)):
                path = network.block_path(gene, index)
                gradient = _branch_gradient(network.branch_outputs(path))
                score[index] += torch.inf if network.indispensable(path) else abs(gradient)
    network.zero_grad(set_to_none=True)
    for score, group in zip(unit_scores, units, strict=True):
        permute(group, score.argsort(descending=True, stable=True))
    network.block_order = {
        gene: score.argsort(descending=True, stable=True).tolist()
        for gene, score in block_scores.items()
    }
