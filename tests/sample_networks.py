"""Small networks and their templates, exported once per test process."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn

from hardware.formats.policy import QuantPolicy
from hardware.formats.registry import find_format
from hardware.graph.template import Template
from hardware.writing.materialize import Weights, arrays
from nas.evaluation.candidate_builder import template_of
from supernets.families.beit3.config import Beit3Config
from supernets.families.bert.config import BertConfig
from supernets.families.image_transformer import ImageSuperNetwork
from supernets.families.modernbert.config import ModernBertConfig
from supernets.families.resnet.config import ResNetConfig
from supernets.families.resnet.network import ResNetSuperNetwork
from supernets.families.texts.sizes import TextTransformerSizes
from supernets.families.texts.transformer import TextSuperNetwork
from supernets.families.vit.config import VitConfig
from supernets.layers.batch_norm import fold
from supernets.settings import SpaceSettings

VIT = VitConfig(
    image_size=16, patch_size=4, channels=1, embed_dim=48, depth=3, num_heads=4, hidden_dim=96
)
BEIT3 = Beit3Config(
    image_size=16,
    patch_size=4,
    embed_dim=16,
    num_heads=4,
    hidden_dim=24,
    depth=2,
    vocab_size=64,
    max_positions=12,
)
BERT = BertConfig(vocab_size=211, embed_dim=48, depth=2, num_heads=4, hidden_dim=96)
MODERNBERT = ModernBertConfig(vocab_size=211, embed_dim=48, depth=2, num_heads=4, hidden_dim=96)
RESNET = ResNetConfig(
    image_size=16, stem_pool=True, depths=(2, 2), stage_widths=(16, 32), inner_widths=(16, 24)
)


def randomised(network: nn.Module, seed: int = 0) -> None:
    """Give every parameter, norms included, distinct random values."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        scale = 0.3 if parameter.ndim > 1 else 0.5
        offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        nn.init.normal_(parameter, offset, scale, generator=generator)


@cache
def vit() -> tuple[ImageSuperNetwork, Template]:
    """A ViT super-network with random weights, and its template."""
    network = ImageSuperNetwork(VIT, num_labels=10)
    randomised(network)
    return network, template_of(network, network.space(SpaceSettings()))


@cache
def bert(config: TextTransformerSizes = BERT) -> tuple[nn.Module, Template]:
    """A plain BERT, or another family of texts, with random weights, and its template."""
    network = TextSuperNetwork(config, num_labels=3)
    randomised(network)
    return network.extract(), template_of(network, network.space(SpaceSettings()))


@cache
def resnet() -> tuple[nn.Module, Template]:
    """A plain ResNet, norms folded, and its template."""
    network = ResNetSuperNetwork(RESNET, num_labels=10)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, 0, (2 / fan_in) ** 0.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return fold(network.extract()), template_of(network, network.space(SpaceSettings()))


def pictures(count: int, seed: int = 1) -> torch.Tensor:
    """Noise in the shape of `resnet`'s input."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        count, RESNET.channels, RESNET.image_size, RESNET.image_size, generator=generator
    )


def texts(count: int, tokens: int, seed: int = 1) -> dict[str, torch.Tensor]:
    """Random inputs of `bert`, the second half of the first text masked."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, BERT.vocab_size, (count, tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, tokens // 2 :] = 0
    kinds = (torch.arange(tokens) > tokens // 3).long().expand(count, -1)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds.contiguous()}


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
    return QuantPolicy({name: find_format(str(rng.choice(choices))) for name in names})
