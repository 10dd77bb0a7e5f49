"""ResNet weights in torchvision's and timm's naming (both `conv1`, `layer1.0.conv1`, `fc`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from supernets.families.hugging_face import CheckpointError
from supernets.families.resnet.config import ResNetConfig

BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)")
PARTS = {
    "downsample.0": "shortcut.convolution",
    "downsample.1": "shortcut.normalization",
    **{f"conv{n + 1}": f"layer.{n}.convolution" for n in range(3)},
    **{f"bn{n + 1}": f"layer.{n}.normalization" for n in range(3)},
}
OUTSIDE = {
    "conv1": "embedder.embedder.convolution",
    "bn1": "embedder.embedder.normalization",
    "fc": "classifier.1",
}
ORDINARY = re.compile(r"(tv_|gluon_|ssl_|swsl_|wide_)?resnet\d+(_v1b|_2)?")
"""timm's names of networks that compute what torchvision's ResNets do."""


def is_torchvision(names: Iterable[str]) -> bool:
    """Whether the names are torchvision's."""
    return any(name.startswith("layer1.0.conv1.") for name in names)


def sizes(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> ResNetConfig:
    """Read the sizes off the weights; strides are those of torchvision and timm ("v1.5").

    config: what lies beside the weights, timm's config.json. Raises CheckpointError if these are
    no weights of an ordinary ResNet.
    """
    kind = str(config.get("architecture", "resnet50"))
    if not ORDINARY.fullmatch(kind.partition(".")[0]):
        raise CheckpointError(
            f"model.checkpoint: timm's {kind!r} computes something else than an ordinary ResNet; "
            "give a resnet18, 34, 50, 101, 152 or a wide one"
        )
    for name, reason in (
        ("conv1.weight", "its stem is not one convolution"),
        ("bn1.running_mean", "its norms are not BatchNorm"),
    ):
        if name not in weights:
            raise CheckpointError(
                f"model.checkpoint: the weights have no {name}: {reason}; only ordinary ResNets in "
                "torchvision's or timm's naming are known"
            )
    stages: dict[int, int] = {}
    for name in weights:
        match = BLOCK.match(name)
        if match:
            stage, index = int(match[1]), int(match[2])
            stages[stage] = max(stages.get(stage, 0), index + 1)
    bottleneck = "layer1.0.conv3.weight" in weights
    last = "conv3" if bottleneck else "conv2"
    numbers = sorted(stages)
    _refuse_other_convolutions(weights)
    return ResNetConfig(
        image_size=224,
        channels=weights["conv1.weight"].shape[1],
        block="bottleneck" if bottleneck else "basic",
        stem_width=weights["conv1.weight"].shape[0],
        stem_kernel=weights["conv1.weight"].shape[2],
        stem_stride=2,
        stem_pool=True,
        depths=tuple(stages[n] for n in numbers),
        stage_widths=tuple(weights[f"layer{n}.0.{last}.weight"].shape[0] for n in numbers),
        inner_widths=tuple(weights[f"layer{n}.0.conv1.weight"].shape[0] for n in numbers),
    )


def _refuse_other_convolutions(weights: Mapping[str, Tensor]) -> None:
    for name, tensor in weights.items():
        if name.endswith(".downsample.1.weight") and tensor.ndim == 4:
            raise CheckpointError(
                f"model.checkpoint: {name} is a convolution, so there is a pooling before it in "
                "the shortcut (ResNet-D); only ordinary ResNets are known"
            )
    second, first = weights["layer1.0.conv2.weight"], weights["layer1.0.conv1.weight"]
    if second.shape[1] != first.shape[0]:
        raise CheckpointError(
            f"model.checkpoint: layer1.0.conv2.weight {tuple(second.shape)} reads groups of the "
            f"{first.shape[0]} channels before it (ResNeXt); only ordinary ResNets are known"
        )


def transformers_name(name: str) -> str:
    """transformers' name of a tensor; one that it does not have keeps its own."""
    match = BLOCK.match(name)
    if match is None:
        module, _, kind = name.rpartition(".")
        return f"{OUTSIDE[module]}.{kind}" if module in OUTSIDE else name
    module, _, kind = match[3].rpartition(".")
    if module not in PARTS:
        return name
    return f"encoder.stages.{int(match[1]) - 1}.layers.{match[2]}.{PARTS[module]}.{kind}"
