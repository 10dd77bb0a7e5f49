"""Small super-networks of every family, with nothing at a special value."""

from __future__ import annotations

import pytest
import torch

from supernets.data.data import Batch
from supernets.families.bert.config import BertConfig
from supernets.families.registry import family
from supernets.families.resnet.config import ResNetConfig
from supernets.families.sizes import Sizes
from supernets.families.super_network import SuperNetwork
from supernets.families.texts.kept_pieces import KeptPieces
from supernets.families.texts.transformer import TextSuperNetwork
from supernets.families.vit.config import VitConfig
from supernets.load import supernet
from supernets.pretrained.weights import initialise
from supernets.settings import SpaceSettings
from tests.family_models import config_of, one_per_family

VIT = VitConfig(image_size=16, embed_dim=16, num_heads=4, hidden_dim=24, depth=3)
DEIT = VIT.model_copy(update={"prefix_tokens": 2, "head_tokens": 2})
BERT = BertConfig(
    vocab_size=50, max_positions=20, embed_dim=16, depth=3, num_heads=4, hidden_dim=24
)
BASIC = ResNetConfig(
    image_size=16, depths=(2, 3), stage_widths=(16, 24), inner_widths=(16, 24), stem_width=16
)
BOTTLENECK = ResNetConfig(
    image_size=16,
    block="bottleneck",
    depths=(2, 3),
    stage_widths=(32, 48),
    inner_widths=(16, 24),
    stem_width=8,
    stem_kernel=7,
    stem_stride=2,
    stem_pool=True,
)
ELASTIC = SpaceSettings(embed_dim=(0.5, 1.0), resolution=(0.5, 1.0))


def widest(config: Sizes) -> SpaceSettings:
    """Default settings, and what else a family can vary (of ViT in cases of its own)."""
    found = {dimension.name for dimension in family(config.family).dimensions}
    more = found & {"embed_dim", "resolution", "vocabulary"} if config.family != "vit" else ()
    return SpaceSettings.model_validate(dict.fromkeys(more, (0.5, 1.0)))


CASES = [
    *(
        pytest.param(config_of(model), widest(config_of(model)), id=name)
        for name, model in one_per_family().items()
    ),
    pytest.param(config_of("convnextv2"), SpaceSettings(), id="convnextv2"),
    *(
        pytest.param(
            config_of(name), SpaceSettings(resolution=(0.5, 1.0), text_length=(0.5, 1.0)), id=name
        )
        for name in ("beit3-questions", "beit3-pairs")
    ),
    pytest.param(VIT, ELASTIC, id="vit-width-resolution"),
    pytest.param(DEIT, ELASTIC, id="deit"),
    pytest.param(BASIC, SpaceSettings(), id="resnet-stem-3"),
    pytest.param(BOTTLENECK, SpaceSettings(dropped_blocks=(0, 1, 2)), id="resnet-bottleneck"),
]
LABELS = 5


def with_two_blocks(config: Sizes) -> Sizes:
    """Of a transformer; a third would only be exported as the second is."""
    return config.model_copy(update={"depth": 2}) if hasattr(config, "depth") else config


def build(config: Sizes) -> SuperNetwork:
    """A super-network with no weight, norm or statistic at a special value."""
    network, generator = supernet(config, LABELS), torch.Generator().manual_seed(0)
    initialise(network, generator)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 1:
                tensor += 0.3 * torch.rand(tensor.shape, generator=generator)
            if name.endswith(("cls_token", "pos_embed")):
                tensor.normal_(generator=generator)
    if isinstance(network, TextSuperNetwork):
        fixed = 0 if network.config.padding is None else network.config.padding + 1
        others = fixed + torch.randperm(network.config.vocab_size - fixed, generator=generator)
        network.keep_pieces(KeptPieces([*range(fixed), *others.tolist()]))
    return network.eval()


def batch(network: SuperNetwork, n: int = 6) -> Batch:
    """Random samples, texts in the pieces of the active sub-network."""
    generator = torch.Generator().manual_seed(1)
    inputs = {}
    for name, example in network.example_inputs(n).items():
        if isinstance(network, TextSuperNetwork) and name == "input_ids":
            word = network.embeddings.word
            ids = torch.randint(word.active_out, example.shape, generator=generator)
            inputs[name] = word.order[ids]
        elif example.dtype == torch.int64:
            inputs[name] = torch.randint(2, example.shape, generator=generator)
            inputs[name][:, 0] = 1
        else:
            inputs[name] = torch.randn(example.shape, generator=generator)
    return Batch(inputs, torch.randint(LABELS, (n,), generator=generator), torch.arange(n))
