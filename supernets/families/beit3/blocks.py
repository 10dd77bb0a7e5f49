"""A block of a multiway transformer, plain and elastic.

B batch, I tokens of images, T tokens of texts, S all of them, D embed_dim
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from supernets.families.beit3.config import Beit3Config
from supernets.families.image_transformer import Block, ElasticPreNormBlock
from supernets.families.transformer import ElasticBlock
from supernets.layers.composed import Composed
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear


class LookedAt(nn.Module):
    """What tokens are to others alone, where nothing reads what would become of them."""

    def __init__(self, norm1: nn.LayerNorm, key: nn.Linear, value: nn.Linear) -> None:
        super().__init__()
        self.norm1, self.attention = norm1, nn.ModuleDict({"key": key, "value": value})


class MultiwayBlock(nn.Module):
    """Pre-norm block with layers of its own for each kind of token; all look at all.

    read: how many tokens of each kind are computed; None: every one.
    """

    def __init__(self, image: Block, text: Block | LookedAt, read: int | None) -> None:
        super().__init__()
        self.image, self.text, self.read = image, text, read

    def forward(
        self, image_BID: Tensor, text_BTD: Tensor, mask_B11S: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add attention, then the feed-forward part, to tokens of both kinds.

        mask: true where a token may be looked at. Texts that are looked at alone come out as they
        were.
        """
        images, texts = self.image.norm1(image_BID), self.text.norm1(text_BTD)
        keys, values = (
            torch.cat([_layer(self.image, name)(images), _layer(self.text, name)(texts)], dim=1)
            for name in ("key", "value")
        )
        image_BID = self._answered(self.image, image_BID, images, keys, values, mask_B11S)
        if isinstance(self.text, Block):
            text_BTD = self._answered(self.text, text_BTD, texts, keys, values, mask_B11S)
        return image_BID, text_BTD

    def _answered(
        self, way: Block, x: Tensor, normed: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> Tensor:
        mixed = way.attention.among(normed[:, : self.read], keys, values, mask)
        x = x[:, : self.read] + mixed
        out: Tensor = x + way.mlp(way.norm2(x))
        return out


def _layer(way: nn.Module, name: str) -> nn.Module:
    return way.get_submodule(f"attention.{name}")


class ElasticLookedAt(Composed, LookedAt):
    """The same of elastic layers."""

    norm1: ElasticLayerNorm

    def __init__(self, config: Beit3Config) -> None:
        width = config.embed_dim
        norm = ElasticLayerNorm(width, config.layer_norm_eps)
        super().__init__(norm, ElasticLinear(width, width), ElasticLinear(width, width))


class ElasticMultiwayBlock(ElasticBlock, MultiwayBlock):
    """Block of elastic layers; of the last one only the first token of each kind is read."""

    image: ElasticPreNormBlock
    text: ElasticPreNormBlock | ElasticLookedAt

    def __init__(self, config: Beit3Config, index: int) -> None:
        answers = ".text" in config.parts(index)
        MultiwayBlock.__init__(
            self,
            ElasticPreNormBlock(config),
            ElasticPreNormBlock(config) if answers else ElasticLookedAt(config),
            1 if index == config.depth - 1 else None,
        )

    @property
    def ways(self) -> Iterator[tuple[str, ElasticPreNormBlock]]:
        """The halves that compute something from what they look at, by name."""
        yield "image", self.image
        if isinstance(self.text, ElasticPreNormBlock):
            yield "text", self.text

    @property
    def keys_and_values(self) -> list[ElasticLinear]:
        """Layers that have as many heads as the half with most of them."""
        layers = [_layer(way, name) for way in (self.image, self.text) for name in ("key", "value")]
        return [layer for layer in layers if isinstance(layer, ElasticLinear)]

    @property
    def norms(self) -> list[ElasticLayerNorm]:
        """The norms before attention and feed-forward parts."""
        found = [norm for _, way in self.ways for norm in way.norms]
        return found if isinstance(self.text, ElasticPreNormBlock) else [*found, self.text.norm1]

    def share_heads(self) -> None:
        """Let keys and values have every head that queries of either half have."""
        most = max(way.attention.query.active_out for _, way in self.ways)
        for layer in self.keys_and_values:
            layer.active_out = most
