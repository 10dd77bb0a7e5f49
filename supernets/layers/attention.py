"""Self-attention and the feed-forward part: plain, and elastic with the same forward.

B batch, T tokens, D embed_dim, N heads, H head_dim
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.layers.coupled_units import Part, Units
from supernets.layers.elastic import ElasticLinear
from supernets.space.cost import Counts, Extent


class Attention(nn.Module):
    """Multi-head self-attention; the number of heads follows from the width of its layers."""

    def __init__(
        self, query: nn.Linear, key: nn.Linear, value: nn.Linear, out: nn.Linear, head_dim: int
    ) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = query, key, value, out
        self.head_dim = head_dim

    def _heads(self, x_BTD: Tensor) -> Tensor:
        x_BTNH: Tensor = x_BTD.unflatten(-1, (-1, self.head_dim))
        return x_BTNH.transpose(1, 2)

    def forward(
        self, x_BTD: Tensor, mask_B11T: Tensor | None = None, read: int | None = None
    ) -> Tensor:
        """Mix tokens; a boolean `mask_B11T` is true where a token may be looked at.

        Only the first `read` tokens are computed, if it is given.
        """
        q_BNTH = self._heads(self.query(x_BTD[:, :read]))
        k_BNTH, v_BNTH = (self._heads(layer(x_BTD)) for layer in (self.key, self.value))
        attend = _products if torch.is_autocast_enabled("cpu") else F.scaled_dot_product_attention
        y_BNTH = attend(q_BNTH, k_BNTH, v_BNTH, mask_B11T)
        out: Tensor = self.out(y_BNTH.transpose(1, 2).flatten(2))
        return out


def _products(q_BNTH: Tensor, k_BNTH: Tensor, v_BNTH: Tensor, mask_B11T: Tensor | None) -> Tensor:
    """Attention written out: in bfloat16 on CPUs a quarter of the time of torch's fused one."""
    scores_BNTT = q_BNTH @ k_BNTH.transpose(2, 3) * q_BNTH.shape[3] ** -0.5
    if mask_B11T is not None:
        scores_BNTT = scores_BNTT.masked_fill(~mask_B11T, -torch.inf)
    y_BNTH: Tensor = scores_BNTT.softmax(dim=3).to(v_BNTH.dtype) @ v_BNTH
    return y_BNTH


class ElasticAttention(Attention):
    """Attention that can use its first heads only."""

    query: ElasticLinear
    key: ElasticLinear
    value: ElasticLinear
    out: ElasticLinear

    def __init__(
        self, embed_dim: int, num_heads: int, head_dim: int, qkv_bias: bool = True
    ) -> None:
        inner = num_heads * head_dim
        query, key, value = (ElasticLinear(embed_dim, inner, bias=qkv_bias) for _ in range(3))
        super().__init__(query, key, value, ElasticLinear(inner, embed_dim), head_dim)

    def activate(self, embed_dim: int, num_heads: int) -> None:
        """Use the first `num_heads` heads on a stream of width `embed_dim`."""
        inner = num_heads * self.head_dim
        for layer in (self.query, self.key, self.value):
            layer.activate(embed_dim, inner)
        self.out.activate(inner, embed_dim)

    def extract(self) -> Attention:
        """Copy the active part into a plain module."""
        return Attention(
            self.query.extract(),
            self.key.extract(),
            self.value.extract(),
            self.out.extract(),
            self.head_dim,
        )


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, GELU if none is given."""

    def __init__(self, fc1: nn.Linear, fc2: nn.Linear, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.fc1, self.fc2 = fc1, fc2
        self.activation = activation or nn.GELU()

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transform each token on its own."""
        out: Tensor = self.fc2(self.activation(self.fc1(x_BTD)))
        return out


class ElasticFeedForward(FeedForward):
    """Feed-forward part that can use its first neurons only."""

    fc1: ElasticLinear
    fc2: ElasticLinear

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__(ElasticLinear(embed_dim, hidden_dim), ElasticLinear(hidden_dim, embed_dim))

    def activate(self, embed_dim: int, hidden_dim: int) -> None:
        """Use the first `hidden_dim` neurons on a stream of width `embed_dim`."""
        self.fc1.activate(embed_dim, hidden_dim)
        self.fc2.activate(hidden_dim, embed_dim)

    def extract(self) -> FeedForward:
        """Copy the active part into a plain module."""
        return FeedForward(self.fc1.extract(), self.fc2.extract(), deepcopy(self.activation))


def head_units(path: str, attention: ElasticAttention) -> Units:
    """Heads as interchangeable units; they leave through `out`."""
    inputs = [
        Part(tensor, 0)
        for layer in (attention.query, attention.key, attention.value)
        for tensor in layer.parameters()
    ]
    leaving = Part(attention.out.weight, 1, leaves=True)
    heads = attention.out.in_features // attention.head_dim
    return Units(f"{path}.attention.num_heads", heads, (*inputs, leaving))


def neuron_units(path: str, mlp: ElasticFeedForward) -> Units:
    """Feed-forward neurons as interchangeable units; they leave through `fc2`."""
    inputs = [Part(tensor, 0) for tensor in mlp.fc1.parameters()]
    leaving = Part(mlp.fc2.weight, 1, leaves=True)
    return Units(f"{path}.mlp.hidden_dim", mlp.fc1.out_features, (*inputs, leaving))


def block_cost(
    path: str,
    embed_dim: Counts,
    inner: Counts,
    hidden_dim: Counts,
    tokens: Counts,
    kept: NDArray[np.bool_],
    *,
    queries: Counts | None = None,
    window: Counts | None = None,
) -> tuple[dict[str, Extent], Counts]:
    """Extents of one block's six linear layers, and MACs of its attention; all arguments `(n,)`.

    queries: how many of the tokens are computed; keys and values are needed of all. window: how
    many tokens each of them looks at. Both are all tokens if they are not given.
    """
    queries, window = tokens if queries is None else queries, tokens if window is None else window
    into_heads = Extent(embed_dim, inner, tokens, kept)
    extents = {
        f"{path}.attention.query": Extent(embed_dim, inner, queries, kept),
        f"{path}.attention.key": into_heads,
        f"{path}.attention.value": into_heads,
        f"{path}.attention.out": Extent(inner, embed_dim, queries, kept),
        f"{path}.mlp.fc1": Extent(embed_dim, hidden_dim, queries, kept),
        f"{path}.mlp.fc2": Extent(hidden_dim, embed_dim, queries, kept),
    }
    return extents, 2 * queries * window * inner * kept
