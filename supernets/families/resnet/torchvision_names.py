"""ResNet weights in torchvision's and timm's naming (both `conv1`, `layer1.0.conv1`, `fc`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from supernets.pretrained.checkpoint import CheckpointError
from supernets.settings import ResNetConfig

BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
FIELDS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def is_torchvision(weights: Mapping[str, Tensor]) -> bool:
    """Whether the names are torchvision's."""
    return "conv1.weight" in weights and "layer1.0.conv1.weight" in weights


def torchvision_config(weights: Mapping[str, Tensor], image_size: int = 224) -> ResNetConfig:
    """Read the sizes off the weights; strides are those of torchvision and timm ("v1.5").

    Raises CheckpointError if these are no weights of an ordinary ResNet.
    """
    if not is_torchvision(weights) or "bn1.weight" not in weights or _grouped(weights):
        raise CheckpointError(
            "model.checkpoint: without a model_type in config.json only ordinary ResNets in "
            "torchvision's or timm's naming are known (conv1, layer1.0.conv1, ..., no groups)"
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
    return ResNetConfig(
        image_size=image_size,
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


def _grouped(weights: Mapping[str, Tensor]) -> bool:
    second = weights["layer1.0.conv2.weight"]
    return second.shape[1] != weights["layer1.0.conv1.weight"].shape[0]


def as_hugging_face(weights: Mapping[str, Tensor], config: ResNetConfig) -> dict[str, Tensor]:
    """The same tensors under transformers' names."""
    renamed: dict[str, Tensor] = {}

    def move(theirs: str, ours: str) -> None:
        for field in FIELDS:
            if f"{theirs}.{field}" in weights:
                renamed[f"{ours}.{field}"] = weights[f"{theirs}.{field}"]

    move("conv1", "embedder.embedder.convolution")
    move("bn1", "embedder.embedder.normalization")
    move("fc", "classifier.1")
    for stage, depth in enumerate(config.depths):
        for index in range(depth):
            old, new = f"layer{stage + 1}.{index}", f"encoder.stages.{stage}.layers.{index}"
            for number in range(len(config.block_kernels)):
                move(f"{old}.conv{number + 1}", f"{new}.layer.{number}.convolution")
                move(f"{old}.bn{number + 1}", f"{new}.layer.{number}.normalization")
            move(f"{old}.downsample.0", f"{new}.shortcut.convolution")
            move(f"{old}.downsample.1", f"{new}.shortcut.normalization")
    return renamed
