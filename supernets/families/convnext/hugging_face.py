"""Checkpoints of ConvNeXt and ConvNeXt V2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from supernets.families.convnext.config import ConvNextConfig
from supernets.families.hugging_face import (
    CheckpointError,
    Field,
    HuggingFace,
    Tensors,
    Variant,
    square,
)
from supernets.families.image_checkpoints import fold_scales
from supernets.families.sizes import Sizes

STAGE, LAYER = "encoder.stages.{}", "encoder.stages.{}.layers.{}"


class _Depths(Field):
    """Blocks per stage; how many stages there are is a field of its own."""

    def value(self, config: Mapping[str, Any]) -> Any:
        depths, stages = super().value(config), config["num_stages"]
        if len(depths) != stages:
            raise CheckpointError(
                f"model.checkpoint: config.json has num_stages {stages} and {self.theirs} "
                f"{depths}; both have to tell of the same stages"
            )
        return depths

    def entry(self, sizes: Sizes, ours: str) -> dict[str, Any]:
        depths = list(getattr(sizes, ours))
        return {self.theirs: depths, "num_stages": len(depths)}


def prepare(theirs: Mapping[str, Tensor], own: ConvNextConfig, wanted: ConvNextConfig) -> Tensors:
    """LayerScale in the layer before it; parameters of response norms as vectors."""
    ready = {name: t.flatten() if ".grn." in name else t for name, t in theirs.items()}
    fold_scales(ready, r"(.*)\.layer_scale_parameter", r"\1.pwconv2")
    return ready


HUGGING_FACE = HuggingFace(
    names={
        "stem.conv": "embeddings.patch_embeddings",
        "stem.norm": "embeddings.layernorm",
        "downsamples.{}.norm": f"{STAGE}.downsampling_layer.0",
        "downsamples.{}.conv": f"{STAGE}.downsampling_layer.1",
        "stages.{}.{}.conv": f"{LAYER}.dwconv",
        "stages.{}.{}.norm": f"{LAYER}.layernorm",
        "stages.{}.{}.fc1": f"{LAYER}.pwconv1",
        "stages.{}.{}.response_norm": f"{LAYER}.grn",
        "stages.{}.{}.fc2": f"{LAYER}.pwconv2",
        "norm": "layernorm",
    },
    fields={
        "image_size": square("image_size"),
        "patch_size": square("patch_size"),
        "channels": Field("num_channels"),
        "depths": _Depths("depths"),
        "stage_widths": Field("hidden_sizes", write=list),
        "layer_norm_eps": Field("layer_norm_eps"),
    },
    variants=(
        Variant(
            "convnext",
            "ConvNextForImageClassification",
            ("classifier",),
            {"response_norm": False},
        ),
        Variant(
            "convnextv2",
            "ConvNextV2ForImageClassification",
            ("classifier",),
            {"response_norm": True},
        ),
    ),
    fixed={"hidden_act": ("gelu", "gelu_python")},
    ignored=("classifier.*",),
    prepare=prepare,
)
