"""Checkpoints of ResNet: transformers', and weights in torchvision's or timm's naming."""

from __future__ import annotations

from collections.abc import Sequence

from supernets.families.hugging_face import Bare, Field, HuggingFace, Variant, square
from supernets.families.resnet import torchvision

STEM, BLOCK = "embedder.embedder", "encoder.stages.{}.layers.{}"


def residual_names(places: Sequence[int]) -> dict[str, str]:
    """Stem and blocks, whose convolutions have these numbers in a checkpoint."""
    return {
        "stem.conv": f"{STEM}.convolution",
        "stem.norm": f"{STEM}.normalization",
        **{
            f"stages.{{}}.{{}}.{ours}{number}": f"{BLOCK}.layer.{place}.{theirs}"
            for number, place in enumerate(places, start=1)
            for ours, theirs in (("conv", "convolution"), ("norm", "normalization"))
        },
        "stages.{}.{}.shortcut": f"{BLOCK}.shortcut.convolution",
        "stages.{}.{}.shortcut_norm": f"{BLOCK}.shortcut.normalization",
    }


RESIDUAL_FIELDS = {
    "image_size": square("image_size", default=224),
    "channels": Field("num_channels"),
    "stem_width": Field("embedding_size"),
    "stage_widths": Field("hidden_sizes", write=list),
    "depths": Field("depths", write=list),
    "first_stage_stride": Field(
        "downsample_in_first_stage", lambda down: 2 if down else 1, lambda stride: stride == 2
    ),
}

HUGGING_FACE = HuggingFace(
    names=residual_names(range(3)),
    fields={
        **RESIDUAL_FIELDS,
        "block": Field("layer_type"),
        "stride_in_first_conv": Field("downsample_in_bottleneck"),
    },
    variants=(
        Variant(
            "resnet",
            "ResNetForImageClassification",
            ("classifier.1",),
            {"stem_kernel": 7, "stem_stride": 2, "stem_pool": True},
        ),
    ),
    fixed={"hidden_act": ("relu",)},
    ignored=("classifier.*", "fc.*"),
    bare=Bare(torchvision.is_torchvision, torchvision.sizes, torchvision.transformers_name),
)
