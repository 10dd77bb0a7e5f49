"""Small networks and their templates, exported once per test process."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from hardware.export import export_template
from hardware.materialize import Weights, arrays
from hardware.precision import Precision, QuantPolicy
from hardware.template import Template
from supernets.settings import VitConfig
from supernets.vit import ViTSuperNetwork

VIT = VitConfig(
    image_size=16, patch_size=4, channels=1, embed_dim=48, depth=3, num_heads=4, hidden_dim=96
)


def randomised(network: nn.Module, seed: int = 0) -> None:
    """Give every parameter, norms included, distinct random values."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        scale = 0.3 if parameter.ndim > 1 else 0.5
        offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        nn.init.normal_(parameter, offset, scale, generator=generator)


@cache
def vit() -> tuple[ViTSuperNetwork, Template]:
    """A ViT super-network with random weights, and its template."""
    network = ViTSuperNetwork(VIT, num_labels=10)
    randomised(network)
    largest = network.extract()
    return network, export_template(
        largest, network.example_inputs(), dynamic_axes=network.dynamic_axes
    )


def images(count: int, seed: int = 1) -> torch.Tensor:
    """Noise in the shape of `vit`'s input."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, VIT.channels, VIT.image_size, VIT.image_size, generator=generator)


def random_vit(rng: np.random.Generator) -> tuple[nn.Module, Weights]:
    """One random sub-network of `vit`."""
    network, _ = vit()
    sizes = {"depth": int(rng.integers(1, VIT.depth + 1))}
    for block in range(VIT.depth):
        sizes[f"blocks.{block}.attention.num_heads"] = int(rng.integers(1, VIT.num_heads + 1))
        sizes[f"blocks.{block}.mlp.hidden_dim"] = int(rng.integers(1, VIT.hidden_dim + 1))
    network.activate(sizes)
    plain = network.extract()
    return plain, arrays(plain.state_dict())


def layers_of(template: Template, weights: Weights) -> list[str]:
    """Quantizable layers that a sub-network still has."""
    return [layer.name for layer in template.layers if f"{layer.name}.weight" in weights]


def random_policy(
    template: Template, weights: Weights, rng: np.random.Generator, choices: tuple[str, ...]
) -> QuantPolicy:
    """An independent random precision for every layer."""
    names = layers_of(template, weights)
    return QuantPolicy({name: Precision(str(rng.choice(choices))) for name in names})
