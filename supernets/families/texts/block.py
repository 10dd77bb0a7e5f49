"""A block of a text transformer, plain and elastic; sizes say where it normalises and looks.

B batch, T tokens, D embed_dim
"""

from __future__ import annotations

from torch import Tensor, nn

from supernets.families.texts.sizes import TextTransformerSizes
from supernets.families.transformer import ElasticBlock
from supernets.layers.attention import Attention, ElasticAttention, ElasticFeedForward, FeedForward
from supernets.layers.disentangled import ElasticDisentangled, Pairs
from supernets.layers.elastic import ElasticLayerNorm

Turn = tuple[Tensor, Tensor]


class TextBlock(nn.Module):
    """Transformer block that normalises behind its two parts or, with `norm_first`, before them.

    window: how far from a token others lie that it may look at. theta: the base of the angles that
    tell where they are.
    """

    def __init__(
        self,
        attention: Attention,
        attention_norm: nn.LayerNorm | None,
        mlp: FeedForward,
        mlp_norm: nn.LayerNorm,
        *,
        norm_first: bool,
        window: int | None,
        theta: float | None,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.mlp, self.mlp_norm = mlp, mlp_norm
        self.norm_first, self.window, self.theta = norm_first, window, theta

    def forward(
        self,
        x_BTD: Tensor,
        mask: Tensor,
        read: int | None = None,
        rows_TT: Tensor | None = None,
        turn: Turn | None = None,
        pairs: Pairs | None = None,
    ) -> Tensor:
        """Add attention, then the feed-forward part; of the first `read` tokens.

        mask: `(B, 1, T or 1, T)`. rows_TT: rows of the table of relative places, where attention
        has one. turn, pairs: see `Attention`.
        """
        bias = self.attention.bias
        mask = mask[:, :, :read]
        if bias is not None and rows_TT is not None:
            mask = mask + bias(rows_TT[:read])
        pairs = pairs and pairs.first(read)
        if self.norm_first:
            mixed_BTD = self.attention(self._normalised(x_BTD), mask, read, turn, pairs)
            x_BTD = x_BTD[:, :read] + mixed_BTD
            out: Tensor = x_BTD + self.mlp(self.mlp_norm(x_BTD))
            return out
        mixed_BTD = self.attention(x_BTD, mask, read, turn, pairs)
        x_BTD = self._normalised(x_BTD[:, :read] + mixed_BTD)
        out = self.mlp_norm(x_BTD + self.mlp(x_BTD))
        return out

    def _normalised(self, x_BTD: Tensor) -> Tensor:
        return x_BTD if self.attention_norm is None else self.attention_norm(x_BTD)


class ElasticTextBlock(ElasticBlock, TextBlock):
    """Block of elastic layers."""

    attention: ElasticAttention
    attention_norm: ElasticLayerNorm | None
    mlp: ElasticFeedForward
    mlp_norm: ElasticLayerNorm

    def __init__(self, config: TextTransformerSizes, index: int) -> None:
        width, eps, norm_bias = config.embed_dim, config.layer_norm_eps, config.has_bias("norm")
        bias = config.has_bias("attention")
        TextBlock.__init__(
            self,
            ElasticAttention(
                width,
                config.num_heads,
                config.head_dim,
                (bias, bias, bias),
                config.relative_buckets,
                out_bias=bias,
                disentangled=_disentangled(config),
            ),
            ElasticLayerNorm(width, eps, norm_bias) if config.attention_norm(index) else None,
            ElasticFeedForward(
                width, config.hidden_dim, gated=config.gated, bias=config.has_bias("mlp")
            ),
            ElasticLayerNorm(width, eps, norm_bias),
            norm_first=config.norm_first,
            window=config.window(index),
            theta=config.theta(index),
        )

    @property
    def norms(self) -> list[ElasticLayerNorm]:
        """The norms of attention and feed-forward part."""
        return [norm for norm in (self.attention_norm, self.mlp_norm) if norm is not None]


def _disentangled(config: TextTransformerSizes) -> ElasticDisentangled | None:
    key, query = ("c2p" in config.relative_terms), ("p2c" in config.relative_terms)
    if not key and not query:
        return None
    heads = config.num_heads, config.head_dim
    return ElasticDisentangled(config.embed_dim, *heads, key=key, query=query)
