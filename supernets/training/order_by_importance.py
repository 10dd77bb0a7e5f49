"""First-order Taylor importance of units and blocks, and putting the important ones first.

The change of the loss when a unit is gated off is, to first order, the derivative by that gate,
which is the sum of weight times gradient over the weights that leave the unit (Molchanov et al.
2019, "Importance Estimation for Neural Network Pruning", section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from supernets.data.data import Batch
from supernets.families.super_network import SuperNetwork
from supernets.layers.coupled_units import gate_gradient, permute
from supernets.tasks.classification import CLASSIFICATION
from supernets.tasks.task import Task


def _branch_gradient(parameters: Sequence[Tensor]) -> float:
    products = [(p.detach() * p.grad).sum() for p in parameters if p.grad is not None]
    return float(torch.stack(products).sum())


def order_by_importance(
    network: SuperNetwork, batches: Iterable[Batch], task: Task = CLASSIFICATION
) -> None:
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
        task.importance(network(**batch.inputs), batch.labels).backward()
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
