"""Blocks of a Swin, plain and elastic.

B batch, H height and W width in patches, D width of the stream, M windows of an image, T tokens of
one
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.layers.attention import Attention, ElasticAttention, ElasticFeedForward, FeedForward
from supernets.layers.composed import Composed
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear

FAR = -100.0
"""What transformers adds to the scores of pairs that only the shift brought together."""


class WindowBlock(nn.Module):
    """Pre-norm block whose attention is within windows (Liu et al. 2021, arXiv 2103.14030)."""

    def __init__(
        self,
        norm1: nn.LayerNorm,
        attention: Attention,
        norm2: nn.LayerNorm,
        mlp: FeedForward,
        window: int,
        shift: int,
    ) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = norm1, attention, norm2, mlp
        self.window, self.shift = window, shift

    def forward(self, x_BHWD: Tensor, rows_TT: Tensor) -> Tensor:
        """Add attention, then the feed-forward part.

        rows_TT: rows of the table of relative places for the pairs of a window.
        """
        side, shift = x_BHWD.shape[1], self.shift
        y_BHWD = self.norm1(x_BHWD)
        if shift:
            y_BHWD = torch.roll(y_BHWD, (-shift, -shift), (1, 2))
        assert self.attention.bias is not None
        mask = self.attention.bias(rows_TT)
        if shift:
            apart = shift_mask(side, self.window, shift, x_BHWD.device)
            mask = mask + apart.expand(x_BHWD.shape[0], -1, -1, -1, -1).flatten(0, 1)
        y_BHWD = joined(self.attention(windows(y_BHWD, self.window), mask), side, self.window)
        if shift:
            y_BHWD = torch.roll(y_BHWD, (shift, shift), (1, 2))
        x_BHWD = x_BHWD + y_BHWD
        out: Tensor = x_BHWD + self.mlp(self.norm2(x_BHWD))
        return out


def windows(x_BHWD: Tensor, window: int) -> Tensor:
    """Cut maps into windows, `(B * M, T, D)`."""
    cut: Tensor = x_BHWD.unflatten(1, (-1, window)).unflatten(3, (-1, window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def joined(x_BMxTD: Tensor, side: int, window: int) -> Tensor:
    """Undo `windows`: maps `(B, side, side, D)`."""
    count = side // window
    cut: Tensor = x_BMxTD.unflatten(0, (-1, count, count)).unflatten(3, (window, window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def shift_mask(side: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Summands `(1, M, 1, T, T)` that part tokens of a window which come from two edges."""
    place = torch.arange(side, device=device)
    region = (place >= side - window).int() + (place >= side - shift).int()
    of_token = region[:, None] * 3 + region[None, :]
    of_window = windows(of_token[None, :, :, None], window)[..., 0]
    apart_MTT = of_window[:, None, :] != of_window[:, :, None]
    return (apart_MTT * FAR)[None, :, None]


class Merge(nn.Module):
    """Four neighbours become one token of twice the width."""

    def __init__(self, norm: nn.LayerNorm, reduction: nn.Linear) -> None:
        super().__init__()
        self.norm, self.reduction = norm, reduction

    def forward(self, x_BHWD: Tensor) -> Tensor:
        """Maps of half the height and width, `(B, H / 2, W / 2, 2 * D)`."""
        cut: Tensor = x_BHWD.unflatten(1, (-1, 2)).unflatten(3, (-1, 2))
        out: Tensor = self.reduction(self.norm(cut.permute(0, 1, 3, 4, 2, 5).flatten(3)))
        return out


class ElasticWindowBlock(Composed, WindowBlock):
    """Block of elastic layers."""

    attention: ElasticAttention
    mlp: ElasticFeedForward
    norm1: ElasticLayerNorm
    norm2: ElasticLayerNorm

    def __init__(
        self,
        width: int,
        num_heads: int,
        neurons: int,
        qkv_bias: bool,
        eps: float,
        window: int,
        shift: int,
    ) -> None:
        rows = (2 * window - 1) ** 2
        super().__init__(
            ElasticLayerNorm(width, eps),
            ElasticAttention(width, num_heads, width // num_heads, (qkv_bias,) * 3, rows),
            ElasticLayerNorm(width, eps),
            ElasticFeedForward(width, neurons),
            window,
            shift,
        )


class ElasticMerge(Composed, Merge):
    """Merge of elastic layers."""

    norm: ElasticLayerNorm
    reduction: ElasticLinear

    def __init__(self, width: int) -> None:
        # transformers gives this norm the usual epsilon, whatever config.json says.
        norm = ElasticLayerNorm(4 * width, 1e-5)
        super().__init__(norm, ElasticLinear(4 * width, 2 * width, bias=False))
