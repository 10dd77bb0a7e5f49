"""What checkpoints of image transformers have in common, and what is made of it at load.

D embed_dim, T tokens
"""

from __future__ import annotations

import re

import torch

from supernets.families.hugging_face import CheckpointError, Field, Tensors, square
from supernets.families.image_positions import resize_patches
from supernets.families.sizes import ImageTransformerSizes

PATCHES = "embeddings.patch_embeddings.projection.weight"
CLASS, POSITIONS = "embeddings.cls_token", "embeddings.position_embeddings"

IMAGE_FIELDS = {
    "image_size": square("image_size"),
    "patch_size": square("patch_size"),
    "channels": Field("num_channels"),
    "embed_dim": Field("hidden_size"),
    "depth": Field("num_hidden_layers"),
    "num_heads": Field("num_attention_heads"),
    "layer_norm_eps": Field("layer_norm_eps"),
}
"""Sizes that every one of them says in the same words."""

SEPARATE = (
    (r"^layers\.", "encoder.layer."),
    (r"\.attention\.([qkv])_proj\.", r".attention.attention.\1_proj."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
)
"""transformers 5 calls attention so in memory, and in files saved without converting."""


def attention_names(block: str) -> dict[str, str]:
    """Our layers of attention in transformers' oldest words."""
    ours = "blocks.{}.attention"
    inner = {f"{ours}.{n}": f"{block}.attention.attention.{n}" for n in ("query", "key", "value")}
    return {**inner, f"{ours}.out": f"{block}.attention.output.dense"}


def patches_as_matrix(ready: Tensors, name: str = PATCHES) -> None:
    """The convolution that embeds patches as the weight of a linear layer."""
    if name in ready and ready[name].ndim == 4:
        ready[name] = ready[name].flatten(1)


def positions_resized(
    ready: Tensors,
    own: ImageTransformerSizes,
    wanted: ImageTransformerSizes,
    prefix: int,
    name: str = POSITIONS,
) -> None:
    """Positions `(1, T, D)` of `prefix` tokens and all patches at the wanted resolution."""
    if name not in ready:
        return
    tokens, given = prefix + own.grid**2, ready[name]
    if given.ndim != 3 or given.shape[:2] != (1, tokens):
        raise CheckpointError(
            f"model.checkpoint: {name} {tuple(given.shape)} is not for the {tokens} tokens that "
            "image_size and patch_size of config.json make"
        )
    ready[name] = resize_patches(given.float(), prefix, wanted.grid, antialias=own.smooth_positions)


def fold_scales(ready: Tensors, scale: str, layer: str) -> None:
    """Multiply the outputs of linear layers by the numbers that scale them (LayerScale).

    scale: pattern of names; layer: the name of the layer before it, without weight or bias.
    """
    for name in [name for name in ready if re.fullmatch(scale, name)]:
        numbers, before = ready.pop(name).float(), re.sub(scale, layer, name)
        for kind in ("weight", "bias"):
            tensor = ready.get(f"{before}.{kind}")
            if tensor is None:
                continue
            if numbers.shape != tensor.shape[:1]:
                raise CheckpointError(
                    f"model.checkpoint: {name} {tuple(numbers.shape)} does not scale the outputs "
                    f"of {before} {tuple(tensor.shape)}"
                )
            per_output = numbers.reshape(-1, *[1] * (tensor.ndim - 1))
            ready[f"{before}.{kind}"] = tensor.float() * per_output


def alternating(ready: Tensors) -> None:
    """Columns of a classifier of two vectors, feature by feature instead of one after the other."""
    weight = ready.get("classifier.weight")
    if weight is not None and weight.ndim == 2 and weight.shape[1] % 2 == 0:
        ready["classifier.weight"] = torch.stack(weight.chunk(2, dim=1), dim=2).flatten(1)
