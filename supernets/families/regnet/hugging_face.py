"""Checkpoints of RegNet."""

from __future__ import annotations

from supernets.families.hugging_face import Field, HuggingFace, Variant, square

STEM, BLOCK = "embedder.embedder", "encoder.stages.{}.layers.{}"

HUGGING_FACE = HuggingFace(
    names={
        "stem.conv": f"{STEM}.convolution",
        "stem.norm": f"{STEM}.normalization",
        **{
            f"stages.{{}}.{{}}.{ours}{number}": f"{BLOCK}.layer.{place}.{theirs}"
            for number, place in ((1, 0), (2, 1), (3, 3))
            for ours, theirs in (("conv", "convolution"), ("norm", "normalization"))
        },
        "stages.{}.{}.squeeze.reduce": f"{BLOCK}.layer.2.attention.0",
        "stages.{}.{}.squeeze.expand": f"{BLOCK}.layer.2.attention.2",
        "stages.{}.{}.shortcut": f"{BLOCK}.shortcut.convolution",
        "stages.{}.{}.shortcut_norm": f"{BLOCK}.shortcut.normalization",
    },
    fields={
        "image_size": square("image_size", default=224),
        "channels": Field("num_channels"),
        "stem_width": Field("embedding_size"),
        "stage_widths": Field("hidden_sizes", write=list),
        "depths": Field("depths", write=list),
        "group_width": Field("groups_width"),
        "squeeze": Field("layer_type", lambda kind: kind == "y", lambda y: "y" if y else "x"),
        "first_stage_stride": Field(
            "downsample_in_first_stage", lambda down: 2 if down else 1, lambda stride: stride == 2
        ),
    },
    variants=(Variant("regnet", "RegNetForImageClassification", ("classifier.1",)),),
    fixed={"hidden_act": ("relu",)},
    # Without squeeze-and-excitation before it, the last convolution has its number.
    older=((r"\.layer\.2\.(convolution|normalization)\.", r".layer.3.\1."),),
    ignored=("classifier.*",),
)
