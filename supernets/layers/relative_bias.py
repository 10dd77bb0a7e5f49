"""Learned numbers added to the scores of pairs of tokens, by where one lies from the other.

N heads, Q tokens that look, T tokens, R rows of the table
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.layers.elastic import Elastic


class RelativeBias(nn.Module):
    """A number per head and relative place."""

    def __init__(self, table_RN: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table_RN)

    def active_table(self) -> Tensor:
        """The numbers of the heads in use, `(R, N)`."""
        return self.table

    def forward(self, rows_QT: Tensor) -> Tensor:
        """Summands `(1, N, Q, T)` of scores, from the row of the table that each pair has."""
        # Transposed first: a lookup of rows would be a layer whose precision is chosen.
        picked = self.active_table().t().index_select(1, rows_QT.flatten())
        bias: Tensor = picked.unflatten(1, (rows_QT.shape[0], rows_QT.shape[1]))
        return bias.unsqueeze(0)


class ElasticRelativeBias(RelativeBias, Elastic):
    """A table of which the first heads alone can be used."""

    def __init__(self, rows: int, num_heads: int) -> None:
        super().__init__(torch.zeros(rows, num_heads))
        self.active_in = num_heads

    def active_table(self) -> Tensor:
        """The first columns, `(R, N)`."""
        return self.table[:, : self.active_in]

    def extract(self) -> RelativeBias:
        """Copy the active part into a plain module."""
        return RelativeBias(self.active_table().detach().clone())
