"""Every example is a valid experiment, and those from scratch have the space they ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from nas import api
from nas.experiment.load import load_experiment
from nas.experiment.schema import Experiment
from supernets.families.beit.config import BeitConfig
from supernets.families.beit3.config import Beit3Config
from supernets.families.bert.config import BertConfig
from supernets.families.clip.config import ClipConfig
from supernets.families.deberta.config import DebertaConfig
from supernets.families.dinov2.config import Dinov2Config
from supernets.families.distilbert.config import DistilBertConfig
from supernets.families.efficientnet.config import EfficientNetConfig
from supernets.families.electra.config import ElectraConfig
from supernets.families.mobilenet_v2.config import MobileNetV2Config
from supernets.families.modernbert.config import ModernBertConfig
from supernets.families.mpnet.config import MPNetConfig
from supernets.families.regnet.config import RegNetConfig
from supernets.families.roberta.config import RobertaConfig
from supernets.families.siglip.config import SiglipConfig
from supernets.families.sizes import Sizes
from supernets.families.swin.config import SwinConfig
from supernets.families.vit.config import VitConfig
from supernets.load import supernet
from tests.sample_hub import lay_out

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
BASE = {"embed_dim": 768, "depth": 12, "num_heads": 12, "hidden_dim": 3072}
CHECKPOINTS: dict[str, Sizes] = {
    "google-bert/bert-base-uncased": BertConfig(vocab_size=30522, max_positions=512, **BASE),
    "facebook/dinov2-small": Dinov2Config(
        image_size=112, embed_dim=384, depth=12, num_heads=6, hidden_dim=1536
    ),
    "openai/clip-vit-base-patch32": ClipConfig(image_size=224, patch_size=32, **BASE),
    "google/siglip-base-patch16-224": SiglipConfig(image_size=224, patch_size=16, **BASE),
    "google/efficientnet-b0": EfficientNetConfig(image_size=224),
    "facebook/regnet-y-040": RegNetConfig(
        image_size=224,
        stem_width=32,
        stage_widths=(128, 192, 512, 1088),
        depths=(2, 6, 12, 2),
        group_width=64,
    ),
    "google/mobilenet_v2_1.0_224": MobileNetV2Config(image_size=96),
    "microsoft/beit-base-patch16-224-pt22k-ft22k": BeitConfig(
        image_size=224, patch_size=16, **BASE
    ),
    "checkpoints/beit3-base/model.safetensors": Beit3Config(image_size=224, patch_size=16, **BASE),
    "microsoft/swin-tiny-patch4-window7-224": SwinConfig(
        image_size=224,
        patch_size=4,
        window_size=7,
        depths=(2, 2, 6, 2),
        stage_widths=(96, 192, 384, 768),
        num_heads=(3, 6, 12, 24),
    ),
    "distilbert/distilbert-base-uncased": DistilBertConfig(
        vocab_size=30522, max_positions=512, **{**BASE, "depth": 6}
    ),
    "FacebookAI/roberta-base": RobertaConfig(vocab_size=50265, max_positions=512, **BASE),
    "google/electra-small-discriminator": ElectraConfig(
        vocab_size=30522, max_positions=512, embed_dim=256, depth=12, num_heads=4, hidden_dim=1024
    ),
    "microsoft/mpnet-base": MPNetConfig(vocab_size=30527, max_positions=512, **BASE),
    "microsoft/deberta-v3-small": DebertaConfig(
        vocab_size=128100, max_positions=512, **{**BASE, "depth": 6}
    ),
    "answerdotai/ModernBERT-base": ModernBertConfig(
        vocab_size=50368, max_positions=8192, **{**BASE, "depth": 22, "hidden_dim": 1152}
    ),
    "google/vit-base-patch16-224": VitConfig(image_size=224, patch_size=16, **BASE),
    "sentence-transformers/all-MiniLM-L6-v2": BertConfig(
        vocab_size=30522, max_positions=512, embed_dim=384, depth=6, num_heads=12, hidden_dim=1536
    ),
}


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_is_a_valid_experiment_with_its_space(path: Path) -> None:
    experiment = Experiment.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert experiment.name == path.stem
    model = experiment.model
    config = model.sizes or CHECKPOINTS[str(model.checkpoint)]
    with torch.device("meta"):
        network = supernet(config, 10)
    space = network.space(experiment.space)
    largest = network.cost(space, space.largest()[None])
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    folded = sum(norm.num_features for norm in norms)  # scale and shift become a bias
    assert largest.parameters[0] == sum(p.numel() for p in network.parameters()) - folded
    assert {"int4", "int8", "fp32"} == {
        choice
        for gene in space.genes
        if gene.name.endswith(".precision")
        for choice in gene.choices
    }


ALWAYS = ("ner_distilbert", "siglip_b16")
"""One of texts in files of one's own and one of images by a name of the hub; the others are slow
tests. Plain runs of the built-in data are tested elsewhere."""


OTHERWISE = {
    # Sizes that are read off bare weights are those of the real base model.
    "imagenet_beit3_base": ("model.checkpoint=checkpoints/beit3-base",),
}
"""What a tiny model cannot take from its example."""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path.stem in ALWAYS else pytest.mark.slow, id=path.stem)
        for path in EXAMPLES
    ],
)
def test_example_passes_the_check_with_what_it_names(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a hub: tiny checkpoints and data sets lie where their names are looked for first."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    copy = lay_out(path, tmp_path)
    told: list[str] = []
    experiment = load_experiment(copy, OTHERWISE.get(path.stem, ()))
    assert str(experiment.model.checkpoint or tmp_path).startswith(str(tmp_path))
    resolved = api.check(experiment, tmp_path / "run", tell=lambda found: told.append(str(found)))
    assert resolved.task is not None
    assert resolved.metric in (experiment.metric, resolved.quality.name)
    assert told[-1].startswith("plan: ")
    assert not (tmp_path / "run").exists()
