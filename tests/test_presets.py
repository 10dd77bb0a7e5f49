"""Published spaces: their numbers of genes and sizes; widths, fractions and locks."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from supernets.families.beit3.config import Beit3Config
from supernets.families.bert.config import BertConfig
from supernets.families.convnext.config import ConvNextConfig
from supernets.families.efficientnet.config import EfficientNetConfig
from supernets.families.mobilenet_v2.config import MobileNetV2Config
from supernets.families.regnet.config import RegNetConfig
from supernets.families.resnet.config import ResNetConfig
from supernets.families.sizes import Sizes
from supernets.families.swin.config import SwinConfig
from supernets.families.vit.config import VitConfig
from supernets.load import supernet
from supernets.presets import PRESETS
from supernets.settings import SpaceSettings
from supernets.space.space import Gene, SearchSpace

BERT_BASE = BertConfig(
    vocab_size=30522, max_positions=512, embed_dim=768, depth=12, num_heads=12, hidden_dim=3072
)
VIT_BASE = VitConfig(
    image_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, hidden_dim=3072
)
BEIT3_BASE = Beit3Config(
    image_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12, hidden_dim=3072
)
RESNET_50 = ResNetConfig(
    image_size=224,
    block="bottleneck",
    stem_width=64,
    stem_kernel=7,
    stem_stride=2,
    stem_pool=True,
    depths=(3, 4, 6, 3),
    stage_widths=(256, 512, 1024, 2048),
    inner_widths=(64, 128, 256, 512),
)


def space_of(config: Sizes, settings: object) -> SearchSpace:
    with torch.device("meta"):
        return supernet(config, 10).space(SpaceSettings.model_validate(settings))


def searched(space: SearchSpace) -> list[Gene]:
    """Genes that have more than one choice."""
    return [gene for gene in space.genes if len(gene.choices) > 1]


@pytest.mark.parametrize(
    ("preset", "config", "n_sizes", "n_precisions", "log_sizes", "log_all"),
    [
        # Sizes as the paper's code has them: 1 depth, 12 heads, 12 widths; 72 linears + 2.
        ("simqnas/bert-base", BERT_BASE, 25, 74, 12.99, 35.2),
        ("simqnas/vit-b16", VIT_BASE, 25, 73, 12.99, 34.9),
        ("instatune/bert-base", BERT_BASE, 25, 74, 12.99, 35.2),
        ("instatune/vit-b16", VIT_BASE, 25, 73, 12.98, 34.9),
        ("simqnas/beit3-base", BEIT3_BASE, 25, 72, 12.98, 34.6),
        ("instatune/beit3-base", BEIT3_BASE, 25, 73, 12.98, 34.9),
        # 4 stages' depths and widths, 16 blocks; 53 convolutions.
        ("simqnas/resnet-50", RESNET_50, 24, 53, None, None),
    ],
)
def test_preset_has_the_published_genes(
    preset: str,
    config: Sizes,
    n_sizes: int,
    n_precisions: int,
    log_sizes: float | None,
    log_all: float | None,
) -> None:
    genes = searched(space_of(config, preset))
    precisions = [gene for gene in genes if gene.name.endswith(".precision")]
    assert (len(genes) - len(precisions), len(precisions)) == (n_sizes, n_precisions)
    assert {gene.choices for gene in precisions} == {("int8", "fp32")}
    if log_sizes is not None:
        lonely = {**PRESETS[preset], "precision": {"*": ("fp32",)}}
        assert math.log10(space_of(config, lonely).size) == pytest.approx(log_sizes, abs=0.01)
        assert math.log10(space_of(config, preset).size) == pytest.approx(log_all, abs=0.05)


def test_presets_resnet_sizes() -> None:
    space = space_of(RESNET_50, "simqnas/resnet-50")
    choices = {gene.name: gene.choices for gene in space.genes}
    assert choices["stages.2.depth"] == (4, 5, 6)
    assert choices["stages.0.width"] == (168, 208, 256)  # multiples of 8 nearest to .65, .8, 1
    assert choices["stages.3.0.inner_width"] == (296, 368, 512)  # .2, .25, .35 as parts of .35
    assert choices["head.precision"] == ("fp32",)


@pytest.mark.parametrize(
    ("preset", "config"),
    [
        ("wide/transformer", VIT_BASE),
        ("wide/resnet", RESNET_50),
        ("wide/swin", SwinConfig(depths=(2, 2, 6))),
        ("wide/convnet", ConvNextConfig(image_size=64, depths=(3, 3, 9))),
        ("wide/convnet", MobileNetV2Config()),
        ("wide/regnet", RegNetConfig(depths=(2, 6, 12))),
        ("wide/convnet", EfficientNetConfig(image_size=224)),
    ],
)
def test_wide_presets_give_every_layer_all_precisions(preset: str, config: Sizes) -> None:
    precisions = [g for g in space_of(config, preset).genes if g.name.endswith(".precision")]
    assert {gene.choices for gene in precisions} == {("int4", "int8", "fp32")}


def test_papers_leave_patch_embedding_and_embeddings_alone() -> None:
    locked = {g.name: g.choices for g in space_of(BERT_BASE, "simqnas/bert-base").genes}
    assert locked["embeddings.word.precision"] == ("fp32",)
    locked = {g.name: g.choices for g in space_of(VIT_BASE, "instatune/vit-b16").genes}
    assert locked["patch_embed.precision"] == ("fp32",)


def test_fields_beside_a_preset_replace_its_own() -> None:
    space = space_of(VIT_BASE, {"preset": "instatune/vit-b16", "depth": [6, 12]})
    assert space.genes[0].choices == (6, 12)
    assert space.genes[1].choices == (6, 8, 10, 12)


def test_widths_as_values_and_as_fractions_are_the_same_genes() -> None:
    values = {"depth": [6, 12], "num_heads": [6, 12], "hidden_dim": [768, 1536]}
    fractions = {"depth": [0.5, 1.0], "num_heads": [0.5, 1.0], "hidden_dim": [0.25, 0.5]}
    assert space_of(VIT_BASE, values) == space_of(VIT_BASE, fractions)


def test_last_pattern_that_fits_a_layer_counts_and_locks_it() -> None:
    precision = {"*": ["int4", "fp32"], "blocks.*": ["int4", "int8"], "blocks.0.mlp.fc1": ["fp32"]}
    choices = {g.name: g.choices for g in space_of(VIT_BASE, {"precision": precision}).genes}
    assert choices["head.precision"] == ("int4", "fp32")
    assert choices["blocks.1.mlp.fc1.precision"] == ("int4", "int8")
    assert choices["blocks.0.mlp.fc1.precision"] == ("fp32",)


def test_genes_of_kept_blocks_require_nothing_and_others_their_rank() -> None:
    with torch.device("meta"):
        network = supernet(VIT_BASE, 10)
    network.block_order = {"depth": [3, 0, *(i for i in range(12) if i not in (0, 3))]}
    space = network.space(SpaceSettings(depth=(1, 2, 12)))
    required = {gene.name: gene.requires and gene.requires.at_least for gene in space.genes}
    assert required["blocks.3.mlp.hidden_dim"] is None
    assert required["blocks.0.mlp.fc2.precision"] == 2
    assert required["blocks.11.attention.num_heads"] == 12
    assert required["head.precision"] is None


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (VIT_BASE, {"num_heads": [6, 16]}, "space.num_heads: 16 is larger than the network's 12"),
        (VIT_BASE, {"precision": {"block.*": ["int8"]}}, r"pattern 'block\.\*' fits no layer"),
        (
            VIT_BASE,
            {"stage_width": [0.5]},
            "space.stage_width: a vit network has no such",
        ),
        (BERT_BASE, {"embed_dim": [0.5]}, "space.embed_dim: a bert network has no such dimension"),
        (RESNET_50, {"num_heads": [1]}, "space.num_heads: a resnet network has no such dimension"),
        (VIT_BASE, {"resolution": [100]}, "space.resolution: 100 is no multiple of 16"),
        (RESNET_50, {"dropped_blocks": [0, -1]}, "must be a whole number from 0 on"),
        (VIT_BASE, "simqnas/vit", "no preset is called 'simqnas/vit'; there are simqnas/bert-base"),
        (VIT_BASE, {"depth": []}, "at least 1 item"),
        (VIT_BASE, {"depth": [1.5]}, "or a fraction above 0 and at most 1.0"),
    ],
)
def test_impossible_spaces_are_one_clear_message(
    config: Sizes, settings: dict[str, object], message: str
) -> None:
    with pytest.raises((ValueError, ValidationError), match=message):
        space_of(config, settings)


def test_all_mistakes_of_a_space_are_told_together() -> None:
    settings = {
        "depth": [13],
        "num_heads": [16],
        "stage_width": [1.0],
        "precision": {"x": ["int8"]},
    }
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the lines are checked below
        space_of(VIT_BASE, settings)
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "space.depth",
        "space.num_heads",
        "space.stage_width",
        "space.precision",
    ]
