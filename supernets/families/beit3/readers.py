"""From the tokens that are read to a vector a sample, plain and of elastic layers.

B batch, D embed_dim
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.families.beit3.config import Beit3Config
from supernets.layers.composed import Composed
from supernets.layers.elastic import ElasticLayerNorm, ElasticLinear


class Pooler(nn.Module):
    """Of a text about one image: the image's first token."""

    def __init__(self, norm: nn.LayerNorm, dense: nn.Linear) -> None:
        super().__init__()
        self.norm, self.dense = norm, dense

    def forward(self, image_BD: Tensor, text_BD: Tensor) -> Tensor:
        """First tokens in, `(B, D)` out."""
        pooled: Tensor = torch.tanh(self.dense(self.norm(image_BD)))
        return pooled


class JointReader(nn.Module):
    """Of a text about two images: first tokens of image and text, for each of the images."""

    def __init__(self, image: nn.LayerNorm, text: nn.LayerNorm, joint: nn.LayerNorm) -> None:
        super().__init__()
        self.image, self.text, self.joint = image, text, joint

    def forward(self, image_BD: Tensor, text_BD: Tensor) -> Tensor:
        """First tokens in, all of first images before those of second ones; `(B, 4 * D)` out."""
        each = torch.cat([self.image(image_BD), self.text(text_BD)], dim=1)
        joint: Tensor = self.joint(each.unflatten(0, (2, -1)).transpose(0, 1).flatten(1))
        return joint


class ElasticPooler(Composed, Pooler):
    """The same of elastic layers."""

    norm: ElasticLayerNorm
    dense: ElasticLinear

    @property
    def width(self) -> int:
        """Of what comes out."""
        return self.dense.out_features

    @property
    def norms(self) -> list[ElasticLayerNorm]:
        """All of it."""
        return [self.norm]


class ElasticJointReader(Composed, JointReader):
    """The same of elastic layers."""

    image: ElasticLayerNorm
    text: ElasticLayerNorm
    joint: ElasticLayerNorm

    @property
    def width(self) -> int:
        """Of what comes out."""
        return self.joint.active_out

    @property
    def norms(self) -> list[ElasticLayerNorm]:
        """All of them."""
        return [self.image, self.text, self.joint]


ElasticReader = ElasticPooler | ElasticJointReader


def new_reader(config: Beit3Config) -> ElasticReader:
    """The one for what is asked."""
    width, eps = config.embed_dim, config.layer_norm_eps
    if config.asks == "question":
        return ElasticPooler(ElasticLayerNorm(width, eps), ElasticLinear(width, width))
    return ElasticJointReader(
        ElasticLayerNorm(width, eps), ElasticLayerNorm(width, eps), ElasticLayerNorm(4 * width, eps)
    )
