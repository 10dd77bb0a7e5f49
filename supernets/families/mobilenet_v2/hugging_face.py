"""Checkpoints of MobileNetV2."""

from __future__ import annotations

from collections.abc import Iterator
from operator import not_

from supernets.families.hugging_face import Field, HuggingFace, Variant, square

PARTS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}


def _layers(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Convolution and norm of one of their layers."""
    yield f"{ours}conv", f"{theirs}.convolution"
    yield f"{ours}norm", f"{theirs}.normalization"


HUGGING_FACE = HuggingFace(
    names={
        **dict(_layers("stem.", "conv_stem.first_conv")),
        **{
            name: other
            for block, theirs in (("blocks.first", "conv_stem"), ("blocks.{}", "layer.{}"))
            for part, layer in PARTS.items()
            for name, other in _layers(f"{block}.{part}_", f"{theirs}.{layer}")
        },
        **dict(_layers("top.", "conv_1x1")),
    },
    fields={
        "image_size": square("image_size"),
        "channels": Field("num_channels"),
        "width_multiplier": Field("depth_multiplier"),
        "width_divisor": Field("depth_divisible_by"),
        "least_width": Field("min_depth"),
        "expansion": Field("expand_ratio"),
        "first_block_expands": Field("first_layer_is_expansion", not_, not_),
        "wide_top": Field("finegrained_output"),
        "tf_padding": Field("tf_padding"),
        "batch_norm_eps": Field("layer_norm_eps"),
    },
    variants=(Variant("mobilenet_v2", "MobileNetV2ForImageClassification", ("classifier",)),),
    fixed={"hidden_act": ("relu6",), "output_stride": (32,)},
    ignored=("classifier.*", "segmentation_head.*"),
)
