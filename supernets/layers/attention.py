"""Self-attention and the feed-forward part: plain, and elastic with the same forward.

B batch, T tokens, D embed_dim, N heads, H head_dim
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.layers.composed import Composed
from supernets.layers.coupled_units import Part, Units, read_by, written_by
from supernets.layers.disentangled import Disentangled, ElasticDisentangled, Pairs
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear
from supernets.layers.relative_bias import ElasticRelativeBias, RelativeBias
from supernets.layers.rotary import turned
from supernets.space.cost import Counts, Extent


class Attention(nn.Module):
    """Multi-head self-attention; the number of heads follows from the width of its layers.

    `bias` makes the floats that whoever calls it may give as a mask. `norm` is of what all heads
    put out together (sub-LN: Wang et al. 2022, arXiv 2210.06423).
    """

    def __init__(
        self,
        query: nn.Linear,
        key: nn.Linear,
        value: nn.Linear,
        out: nn.Linear,
        head_dim: int,
        bias: RelativeBias | None = None,
        disentangled: Disentangled | None = None,
        norm: nn.LayerNorm | None = None,
    ) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = query, key, value, out
        self.head_dim, self.bias, self.disentangled = head_dim, bias, disentangled
        self.norm = norm

    @property
    def scale(self) -> float | None:
        """What scores of several terms are multiplied by; None: `1 / sqrt(H)`."""
        if self.disentangled is None:
            return None
        return float(((1 + self.disentangled.terms) * self.head_dim) ** -0.5)

    def _heads(self, x_BTD: Tensor) -> Tensor:
        x_BTNH: Tensor = x_BTD.unflatten(-1, (-1, self.head_dim))
        return x_BTNH.transpose(1, 2)

    def forward(
        self,
        x_BTD: Tensor,
        mask: Tensor | None = None,
        read: int | None = None,
        turn: tuple[Tensor, Tensor] | None = None,
        pairs: Pairs | None = None,
    ) -> Tensor:
        """Mix tokens.

        mask: true where a token may be looked at, `(B, 1, 1, T)`, or floats that are added to the
        scores, `(1, N, T, T)`. Only the first `read` tokens are computed, if it is given; the mask
        then has their rows. turn: see `rotary.turns`. pairs: what `disentangled` needs.
        """
        q_BTD, k_BTD = self.query(x_BTD[:, :read]), self.key(x_BTD)
        if turn is not None:
            cos, sin = turn
            q_BTD = turned(q_BTD, (cos[:, :read], sin[:, :read]), self.head_dim)
            k_BTD = turned(k_BTD, turn, self.head_dim)
        q_BNTH, k_BNTH, v_BNTH = map(self._heads, (q_BTD, k_BTD, self.value(x_BTD)))
        if self.disentangled is not None and self.scale is not None:
            assert mask is not None
            mask = mask + self.disentangled(q_BNTH, k_BNTH, pairs) * self.scale
        return self._mixed(q_BNTH, k_BNTH, v_BNTH, mask)

    def among(self, x_BTD: Tensor, k_BSD: Tensor, v_BSD: Tensor, mask: Tensor) -> Tensor:
        """Mix tokens by keys and values that are given, of which there may be more heads.

        mask: true where one of the S tokens may be looked at, `(B, 1, 1, S)`.
        """
        q_BNTH, k_BNSH, v_BNSH = map(self._heads, (self.query(x_BTD), k_BSD, v_BSD))
        heads = q_BNTH.shape[1]
        if k_BNSH.shape[1] > heads:
            k_BNSH, v_BNSH = k_BNSH[:, :heads], v_BNSH[:, :heads]
        return self._mixed(q_BNTH, k_BNSH, v_BNSH, mask)

    def _mixed(self, q_BNTH: Tensor, k_BNSH: Tensor, v_BNSH: Tensor, mask: Tensor | None) -> Tensor:
        attend = _products if torch.is_autocast_enabled("cpu") else F.scaled_dot_product_attention
        y_BNTH = attend(q_BNTH, k_BNSH, v_BNSH, mask, scale=self.scale)
        y_BTD: Tensor = y_BNTH.transpose(1, 2).flatten(2)
        out: Tensor = self.out(y_BTD if self.norm is None else self.norm(y_BTD))
        return out


def _products(
    q_BNTH: Tensor, k_BNTH: Tensor, v_BNTH: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """Attention written out: in bfloat16 on CPUs a quarter of the time of torch's fused one."""
    scores_BNTT = q_BNTH @ k_BNTH.transpose(2, 3) * (scale or q_BNTH.shape[3] ** -0.5)
    if mask is not None and mask.dtype == torch.bool:
        scores_BNTT = scores_BNTT.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores_BNTT = scores_BNTT + mask
    y_BNTH: Tensor = scores_BNTT.softmax(dim=3).to(v_BNTH.dtype) @ v_BNTH
    return y_BNTH


class ElasticAttention(Composed, Attention):
    """Attention that can use its first heads only."""

    query: ElasticLinear
    key: ElasticLinear
    value: ElasticLinear
    out: ElasticLinear
    bias: ElasticRelativeBias | None
    disentangled: ElasticDisentangled | None
    norm: ElasticLayerNorm | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        head_dim: int,
        qkv_biases: tuple[bool, bool, bool] = (True, True, True),
        bias_rows: int = 0,
        out_bias: bool = True,
        disentangled: ElasticDisentangled | None = None,
        norm_eps: float | None = None,
    ) -> None:
        """bias_rows: relative places that have a summand of their own, if any.

        norm_eps: what the norm of all heads adds to the variance, where there is one.
        """
        inner = num_heads * head_dim
        query, key, value = (ElasticLinear(embed_dim, inner, bias=bias) for bias in qkv_biases)
        bias = ElasticRelativeBias(bias_rows, num_heads) if bias_rows else None
        out = ElasticLinear(inner, embed_dim, bias=out_bias)
        norm = None if norm_eps is None else ElasticLayerNorm(inner, norm_eps)
        super().__init__(query, key, value, out, head_dim, bias, disentangled, norm)

    @property
    def into_heads(self) -> list[ElasticLinear]:
        """The layers whose outputs are the heads."""
        places = [] if self.disentangled is None else self.disentangled.layers.values()
        return [self.query, self.key, self.value, *places]


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, GELU if none is given.

    With a `gate`, that layer is activated instead of `fc1` and multiplies it (Shazeer 2020,
    arXiv 2002.05202). `norm` is of all neurons, see `Attention`.
    """

    def __init__(
        self,
        fc1: nn.Linear,
        fc2: nn.Linear,
        activation: nn.Module | None = None,
        gate: nn.Linear | None = None,
        norm: nn.LayerNorm | None = None,
    ) -> None:
        super().__init__()
        self.fc1, self.fc2, self.gate, self.norm = fc1, fc2, gate, norm
        self.activation = activation or nn.GELU()

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transform each token on its own."""
        if self.gate is None:
            hidden = self.activation(self.fc1(x_BTD))
        else:
            hidden = self.activation(self.gate(x_BTD)) * self.fc1(x_BTD)
        out: Tensor = self.fc2(hidden if self.norm is None else self.norm(hidden))
        return out


class ElasticFeedForward(Composed, FeedForward):
    """Feed-forward part that can use its first neurons only."""

    fc1: ElasticLinear
    fc2: ElasticLinear
    gate: ElasticLinear | None
    norm: ElasticLayerNorm | None

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int,
        activation: nn.Module | None = None,
        gated: bool = False,
        bias: bool = True,
        norm_eps: float | None = None,
    ) -> None:
        """norm_eps: what the norm of all neurons adds to the variance, where there is one."""
        super().__init__(
            ElasticLinear(embed_dim, hidden_dim, bias),
            ElasticLinear(hidden_dim, embed_dim, bias),
            activation,
            ElasticLinear(embed_dim, hidden_dim, bias) if gated else None,
            None if norm_eps is None else ElasticLayerNorm(hidden_dim, norm_eps),
        )

    @property
    def into_neurons(self) -> list[ElasticLinear]:
        """The layers whose outputs are the neurons."""
        return [self.fc1] if self.gate is None else [self.fc1, self.gate]


def head_units(path: str, attention: ElasticAttention) -> Units:
    """Heads as interchangeable units; they leave through `out`."""
    inputs = written_by(*attention.into_heads, attention.norm)
    if attention.bias is not None:
        inputs.append(Part(attention.bias.table, 1))
    heads = attention.out.in_features // attention.head_dim
    return Units(f"{path}.attention.num_heads", heads, (*inputs, read_by(attention.out)))


def neuron_units(path: str, mlp: ElasticFeedForward) -> Units:
    """Feed-forward neurons as interchangeable units; they leave through `fc2`."""
    parts = (*written_by(*mlp.into_neurons, mlp.norm), read_by(mlp.fc2))
    return Units(f"{path}.mlp.hidden_dim", mlp.fc1.out_features, parts)


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
    gated: bool = False,
) -> tuple[dict[str, Extent], Counts]:
    """Extents of one block's linear layers, and MACs of its attention; all arguments `(n,)`.

    gated: whether the feed-forward part has a `gate`.
    queries: how many of the tokens are computed; keys and values are needed of all. window: how
    many tokens each of them looks at. Both are all tokens if they are not given.
    """
    queries, window = tokens if queries is None else queries, tokens if window is None else window
    into_heads = Extent(embed_dim, inner, tokens, kept)
    into_neurons = Extent(embed_dim, hidden_dim, queries, kept)
    extents = {
        f"{path}.attention.query": Extent(embed_dim, inner, queries, kept),
        f"{path}.attention.key": into_heads,
        f"{path}.attention.value": into_heads,
        f"{path}.attention.out": Extent(inner, embed_dim, queries, kept),
        f"{path}.mlp.fc1": into_neurons,
        f"{path}.mlp.fc2": Extent(hidden_dim, embed_dim, queries, kept),
    }
    if gated:
        extents[f"{path}.mlp.gate"] = into_neurons
    return extents, 2 * queries * window * inner * kept
