"""Checkpoints of Swin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from supernets.families.hugging_face import Field, HuggingFace, Tensors, Variant, square
from supernets.families.image_checkpoints import PATCHES, patches_as_matrix
from supernets.families.sizes import Sizes
from supernets.families.swin.config import SwinConfig

STAGE, BLOCK = "encoder.layers.{}", "encoder.layers.{}.blocks.{}"
OURS = "stages.{}.{}"


class _Widths(Field):
    """The width of the first stage; it doubles at every other."""

    def value(self, config: Mapping[str, Any]) -> Any:
        first, depths = config.get(self.theirs), config.get("depths")
        if not isinstance(first, int) or not isinstance(depths, list | tuple):
            return None
        return [first * 2**stage for stage in range(len(depths))]

    def entry(self, sizes: Sizes, ours: str) -> dict[str, Any]:
        return {self.theirs: getattr(sizes, ours)[0]}


def prepare(theirs: Mapping[str, Tensor], own: SwinConfig, wanted: SwinConfig) -> Tensors:
    """The convolution that embeds patches as a matrix."""
    ready = dict(theirs)
    ready.pop("embeddings.mask_token", None)  # of pretraining
    patches_as_matrix(ready)
    return ready


HUGGING_FACE = HuggingFace(
    names={
        "patch_embed": PATCHES.removesuffix(".weight"),
        "patch_norm": "embeddings.norm",
        f"{OURS}.norm1": f"{BLOCK}.layernorm_before",
        f"{OURS}.attention.query": f"{BLOCK}.attention.self.query",
        f"{OURS}.attention.key": f"{BLOCK}.attention.self.key",
        f"{OURS}.attention.value": f"{BLOCK}.attention.self.value",
        f"{OURS}.attention.bias.table": f"{BLOCK}.attention.self.relative_position_bias_table",
        f"{OURS}.attention.out": f"{BLOCK}.attention.output.dense",
        f"{OURS}.norm2": f"{BLOCK}.layernorm_after",
        f"{OURS}.mlp.fc1": f"{BLOCK}.intermediate.dense",
        f"{OURS}.mlp.fc2": f"{BLOCK}.output.dense",
        "merges.{}.norm": f"{STAGE}.downsample.norm",
        "merges.{}.reduction": f"{STAGE}.downsample.reduction",
        "norm": "layernorm",
    },
    fields={
        "image_size": square("image_size"),
        "patch_size": square("patch_size"),
        "channels": Field("num_channels"),
        "depths": Field("depths", write=list),
        "stage_widths": _Widths("embed_dim"),
        "num_heads": Field("num_heads", write=list),
        "window_size": Field("window_size"),
        "mlp_ratio": Field("mlp_ratio"),
        "qkv_bias": Field("qkv_bias"),
        "layer_norm_eps": Field("layer_norm_eps"),
    },
    variants=(Variant("swin", "SwinForImageClassification", ("classifier",)),),
    fixed={"hidden_act": ("gelu", "gelu_python"), "use_absolute_embeddings": (False,)},
    # transformers 5 calls the parts of a block so in memory.
    older=(
        (r"\.attention\.q_proj\.", ".attention.self.query."),
        (r"\.attention\.k_proj\.", ".attention.self.key."),
        (r"\.attention\.v_proj\.", ".attention.self.value."),
        (r"\.attention\.relative_position_bias\.", ".attention.self."),
        (r"\.attention\.o_proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    ),
    ignored=("*relative_position_index", "decoder.*", "classifier.*"),
    prepare=prepare,
)
