"""config.json of an exported model, as Hugging Face clients read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supernets.base import SuperNetwork
from supernets.settings import VitConfig


def export_config(
    network: SuperNetwork, architecture: Mapping[str, int], label_names: Sequence[str]
) -> dict[str, Any]:
    """The transformers configuration nearest to a sub-network, with its label names.

    Heads and neurons that differ between blocks have no field there: the largest is given, and
    `simqnas_architecture` holds every size.
    """
    config = network.config
    assert isinstance(config, VitConfig)
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": architecture.get("depth", config.depth),
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.hidden_dim,
        "qkv_bias": config.qkv_bias,
        "layer_norm_eps": config.layer_norm_eps,
        "id2label": {str(index): name for index, name in enumerate(label_names)},
        "label2id": {name: index for index, name in enumerate(label_names)},
        "simqnas_architecture": dict(architecture),
    }
