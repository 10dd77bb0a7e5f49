"""Scores of what tokens say against where they lie (He et al. 2021, arXiv 2006.03654).

B batch, T tokens, Q of them look, D embed_dim, N heads, H head_dim, R rows of relative places
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from supernets.layers.composed import Composed
from supernets.layers.elastic import ElasticLinear


class RelativePlaces(nn.Module):
    """A vector for each relative place, normalised if there is a norm; all blocks share them."""

    def __init__(self, table_RD: Tensor, norm: nn.LayerNorm | None) -> None:
        super().__init__()
        self.table, self.norm = nn.Parameter(table_RD), norm

    def forward(self) -> Tensor:
        """All vectors, `(R, D)`."""
        out: Tensor = self.table if self.norm is None else self.norm(self.table)
        return out


class Pairs(NamedTuple):
    """Vectors of relative places `(R, D)`, and where among scores against them those of pairs are.

    looking `(T, T)`: among `(T * R)` scores of the tokens that look, seen: of those looked at.
    """

    places: Tensor
    looking: Tensor
    seen: Tensor

    @classmethod
    def of(cls, places_RD: Tensor, rows_TT: Tensor) -> Pairs:
        """From the row of every pair."""
        first = torch.arange(rows_TT.shape[0], device=rows_TT.device) * len(places_RD)
        return cls(places_RD, first[:, None] + rows_TT, first[None, :] + rows_TT)

    def first(self, read: int | None) -> Pairs:
        """Those of the first `read` tokens that look, if it is given."""
        return self._replace(looking=self.looking[:read], seen=self.seen[:read])


class Disentangled(nn.Module):
    """Summands of scores: contents against projected places, for the token that looks (`key`) or
    for the one that is looked at (`query`)."""

    def __init__(self, key: nn.Linear | None, query: nn.Linear | None, head_dim: int) -> None:
        super().__init__()
        self.key, self.query, self.head_dim = key, query, head_dim

    @property
    def terms(self) -> int:
        """How many summands there are beside the scores of contents."""
        return len([layer for layer in (self.key, self.query) if layer is not None])

    def forward(self, q_BNQH: Tensor, k_BNTH: Tensor, pairs: Pairs) -> Tensor:
        """The summands `(B, N, Q, T)`, not scaled."""
        found = [
            self._picked(q_BNQH, self.key, pairs.places, pairs.looking),
            self._picked(k_BNTH, self.query, pairs.places, pairs.seen),
        ]
        terms = [term for term in found if term is not None]
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    def _picked(
        self, x_BNTH: Tensor, layer: nn.Linear | None, places_RD: Tensor, at_QT: Tensor
    ) -> Tensor | None:
        if layer is None:
            return None
        projected_NHR = layer(places_RD).unflatten(1, (-1, self.head_dim)).permute(1, 2, 0)
        scores = (x_BNTH @ projected_NHR).flatten(2)
        picked = scores.index_select(2, at_QT.flatten())
        out: Tensor = picked.unflatten(2, (at_QT.shape[0], at_QT.shape[1]))
        return out


class ElasticDisentangled(Composed, Disentangled):
    """Summands of the first heads alone."""

    key: ElasticLinear | None
    query: ElasticLinear | None

    def __init__(
        self, embed_dim: int, num_heads: int, head_dim: int, *, key: bool, query: bool
    ) -> None:
        inner = num_heads * head_dim
        super().__init__(
            ElasticLinear(embed_dim, inner) if key else None,
            ElasticLinear(embed_dim, inner) if query else None,
            head_dim,
        )

    @property
    def layers(self) -> dict[str, ElasticLinear]:
        """The projections that there are, by name."""
        found = {"key": self.key, "query": self.query}
        return {name: layer for name, layer in found.items() if layer is not None}
