"""Weights of ResNets in torchvision's and timm's naming, and those that compute something else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from supernets.families.hugging_face import CheckpointError
from tests.family_models import make
from tests.test_checkpoints_hf import load, torchvision_names


def weights() -> dict[str, Tensor]:
    """An ordinary ResNet's."""
    return torchvision_names(make("resnet-bottleneck").state_dict())


def without(tensors: dict[str, Tensor], pattern: str) -> dict[str, Tensor]:
    """All tensors but those whose names begin with a pattern."""
    return {name: tensor for name, tensor in tensors.items() if not re.match(pattern, name)}


KERNEL = torch.ones(8, 8, 1, 1)
OTHERS = {
    "layer1.0.se.fc1.weight": {"layer1.0.se.fc1.weight": KERNEL},
    "layer2.1.attn.conv.weight": {"layer2.1.attn.conv.weight": KERNEL},
    "attnpool.k_proj.weight": {"attnpool.k_proj.weight": KERNEL},
    "layer2.0.conv2.filt": {"layer2.0.conv2.filt": KERNEL},
    "layer2.0.downsample.2.weight": {"layer2.0.downsample.2.weight": KERNEL},
    "layer1.0.layer_scale": {"layer1.0.layer_scale": KERNEL},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_plain_resnet_does_not_compute_is_refused_by_name(name: str, tmp_path: Path) -> None:
    save_file({**weights(), **OTHERS[name]}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load(tmp_path / "x.safetensors", size=32)


@pytest.mark.parametrize(
    ("removed", "added", "message"),
    [
        ("conv1", {"conv1.0.weight": KERNEL}, "its stem is not one convolution"),
        (r"bn1\.running", {}, "its norms are not BatchNorm"),
        (
            r"layer1\.0\.conv2",
            {"layer1.0.conv2.weight": torch.ones(8, 2, 3, 3)},
            "reads groups of the 8 channels",
        ),
        (
            r"layer2\.0\.downsample",
            {"layer2.0.downsample.1.weight": torch.ones(64, 32, 1, 1)},
            r"layer2\.0\.downsample\.1\.weight is a convolution",
        ),
    ],
)
def test_other_stems_norms_and_groups_are_refused(
    removed: str, added: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    save_file({**without(weights(), removed), **added}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "x.safetensors", size=32)


@pytest.mark.parametrize("kind", ["seresnet50", "resnet50d", "resnetaa50", "resnext50_32x4d"])
def test_timms_name_of_another_network_is_refused(kind: str, tmp_path: Path) -> None:
    """Some differ in nothing that the weights show: blurs before a stride have none."""
    save_file(weights(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": kind}))
    with pytest.raises(CheckpointError, match=f"timm's '{kind}' computes something else"):
        load(tmp_path, size=32)


@pytest.mark.parametrize("kind", ["resnet50", "resnet50.a1_in1k", "wide_resnet50_2", "tv_resnet34"])
def test_timms_folder_of_an_ordinary_resnet_loads(kind: str, tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": kind}))
    assert load(tmp_path, size=32).network.config.family == "resnet"


def test_names_wrapped_by_dataparallel_load(tmp_path: Path) -> None:
    save_file({f"module.{n}": t for n, t in weights().items()}, tmp_path / "x.safetensors")
    plain = load(tmp_path / "x.safetensors", size=32).network.state_dict()
    assert torch.equal(plain["stem.conv.weight"], weights()["conv1.weight"])
