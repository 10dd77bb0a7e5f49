"""Modules of which a candidate keeps one, together in the network that a template is made of."""

from __future__ import annotations

import operator
from functools import reduce

from torch import Tensor, nn


class SideBySide(nn.ModuleDict):
    """Modules by the names of the choices they are; the sum holds all of them in the graph.

    `hardware.graph.module_choices.side_by_side` takes the sum away.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The sum of what all of them make of `x`."""
        total: Tensor = reduce(operator.add, [module(x) for module in self.values()])
        return total
