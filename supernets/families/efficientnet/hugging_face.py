"""Checkpoints of EfficientNet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from supernets.families.efficientnet.config import STEM, EfficientNetConfig
from supernets.families.hugging_face import CheckpointError, Field, HuggingFace, Variant, square
from supernets.families.sizes import Sizes

BLOCK = "encoder.blocks.{}"


class _Depths(Field):
    """Blocks per stage: theirs times a factor, rounded up."""

    def value(self, config: Mapping[str, Any]) -> Any:
        try:
            factor = config["depth_coefficient"]
            return [math.ceil(factor * repeats) for repeats in config[self.theirs]]
        except (TypeError, ValueError, OverflowError):
            return None

    def entry(self, sizes: Sizes, ours: str) -> dict[str, Any]:
        return {self.theirs: list(getattr(sizes, ours)), "depth_coefficient": 1.0}


class _Widths(Field):
    """Channels after every stage; those before it, and after the last convolution, follow."""

    def value(self, config: Mapping[str, Any]) -> Any:
        widths, before = config[self.theirs], config["in_channels"]
        if isinstance(widths, list | tuple) and list(before) != [STEM, *widths[:-1]]:
            raise CheckpointError(
                f"model.checkpoint: config.json has in_channels {list(before)}; only the channels "
                f"that the stage before puts out, {[STEM, *widths[:-1]]}, are supported"
            )
        return widths

    def entry(self, sizes: Sizes, ours: str) -> dict[str, Any]:
        assert isinstance(sizes, EfficientNetConfig)
        widths = list(sizes.stage_widths)
        before = [STEM, *widths[:-1]]
        return {self.theirs: widths, "in_channels": before, "hidden_dim": sizes.top_width}


class _Symmetric(Field):
    """Stages whose first blocks are among those that are padded alike on both sides."""

    def value(self, config: Mapping[str, Any]) -> Any:
        depths, blocks = DEPTHS.value(config), config[self.theirs]
        if not isinstance(depths, list) or not isinstance(blocks, list | tuple):
            return None
        starts = accumulate([0, *depths[:-1]])
        return [stage for stage, start in enumerate(starts) if start in blocks]

    def entry(self, sizes: Sizes, ours: str) -> dict[str, Any]:
        assert isinstance(sizes, EfficientNetConfig)
        starts = list(accumulate([0, *sizes.depths[:-1]]))
        return {self.theirs: [starts[stage] for stage in getattr(sizes, ours)]}


DEPTHS = _Depths("num_block_repeats")

HUGGING_FACE = HuggingFace(
    names={
        "stem.conv": "embeddings.convolution",
        "stem.norm": "embeddings.batchnorm",
        "blocks.{}.expand_conv": f"{BLOCK}.expansion.expand_conv",
        "blocks.{}.expand_norm": f"{BLOCK}.expansion.expand_bn",
        "blocks.{}.depthwise_conv": f"{BLOCK}.depthwise_conv.depthwise_conv",
        "blocks.{}.depthwise_norm": f"{BLOCK}.depthwise_conv.depthwise_norm",
        "blocks.{}.squeeze.reduce": f"{BLOCK}.squeeze_excite.reduce",
        "blocks.{}.squeeze.expand": f"{BLOCK}.squeeze_excite.expand",
        "blocks.{}.project_conv": f"{BLOCK}.projection.project_conv",
        "blocks.{}.project_norm": f"{BLOCK}.projection.project_bn",
        "top.conv": "encoder.top_conv",
        "top.norm": "encoder.top_bn",
    },
    fields={
        "image_size": square("image_size"),
        "channels": Field("num_channels"),
        "depths": DEPTHS,
        "stage_widths": _Widths("out_channels"),
        "strides": Field("strides", write=list),
        "kernels": Field("kernel_sizes", write=list),
        "expansions": Field("expand_ratios", write=list),
        "symmetric": _Symmetric("depthwise_padding"),
        "width_multiplier": Field("width_coefficient"),
        "width_divisor": Field("depth_divisor"),
        "squeeze_ratio": Field("squeeze_expansion_ratio"),
        "batch_norm_eps": Field("batch_norm_eps"),
    },
    variants=(Variant("efficientnet", "EfficientNetForImageClassification", ("classifier",)),),
    fixed={"hidden_act": ("swish", "silu"), "pooling_type": ("mean",)},
    ignored=("classifier.*",),
)
