"""Checkpoints of RegNet."""

from __future__ import annotations

from supernets.families.hugging_face import Field, HuggingFace, Variant
from supernets.families.resnet.hugging_face import BLOCK, RESIDUAL_FIELDS, residual_names

HUGGING_FACE = HuggingFace(
    names={
        **residual_names((0, 1, 3)),
        "stages.{}.{}.squeeze.reduce": f"{BLOCK}.layer.2.attention.0",
        "stages.{}.{}.squeeze.expand": f"{BLOCK}.layer.2.attention.2",
    },
    fields={
        **RESIDUAL_FIELDS,
        "group_width": Field("groups_width"),
        "squeeze": Field("layer_type", lambda kind: kind == "y", lambda y: "y" if y else "x"),
    },
    variants=(Variant("regnet", "RegNetForImageClassification", ("classifier.1",)),),
    fixed={"hidden_act": ("relu",)},
    # Without squeeze-and-excitation before it, the last convolution has its number.
    older=((r"\.layer\.2\.(convolution|normalization)\.", r".layer.3.\1."),),
    ignored=("classifier.*",),
)
