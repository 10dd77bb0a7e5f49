"""config.json of an exported model, as Hugging Face clients read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supernets.families.super_network import SuperNetwork
from supernets.settings import BertConfig, ResNetConfig, VitConfig
from supernets.space.space import Architecture, size_in


def export_config(
    network: SuperNetwork, architecture: Architecture, label_names: Sequence[str]
) -> dict[str, Any]:
    """The transformers configuration nearest to a sub-network, with its label names.

    Sizes that differ between blocks have no field there: the full one is given, and
    `simqnas_architecture` holds every size.
    """
    config = network.config
    if isinstance(config, VitConfig):
        sizes = _vit(config, architecture)
    elif isinstance(config, BertConfig):
        sizes = _bert(config, architecture)
    else:
        sizes = _resnet(config, architecture)
    return {
        **sizes,
        "id2label": {str(index): name for index, name in enumerate(label_names)},
        "label2id": {name: index for index, name in enumerate(label_names)},
        "simqnas_architecture": dict(architecture),
    }


def _transformer(config: VitConfig | BertConfig, architecture: Architecture) -> dict[str, Any]:
    hidden = [
        size_in(architecture, gene, 0) for gene in architecture if gene.endswith(".hidden_dim")
    ]
    return {
        "hidden_size": size_in(architecture, "embed_dim", config.embed_dim),
        "num_hidden_layers": size_in(architecture, "depth", config.depth),
        "num_attention_heads": config.num_heads,
        "intermediate_size": max(hidden, default=config.hidden_dim),
        "hidden_act": "gelu",
        "layer_norm_eps": config.layer_norm_eps,
    }


def _vit(config: VitConfig, architecture: Architecture) -> dict[str, Any]:
    distilled = config.prefix_tokens == 2
    kind = "DeiTForImageClassification" if distilled else "ViTForImageClassification"
    return {
        "architectures": [kind + "WithTeacher" * (config.head_tokens == 2)],
        "model_type": "deit" if distilled else "vit",
        "image_size": size_in(architecture, "resolution", config.image_size),
        "patch_size": config.patch_size,
        "num_channels": config.channels,
        "qkv_bias": config.qkv_bias,
        **_transformer(config, architecture),
    }


def _bert(config: BertConfig, architecture: Architecture) -> dict[str, Any]:
    return {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "type_vocab_size": config.token_types,
        **_transformer(config, architecture),
    }


def _resnet(config: ResNetConfig, architecture: Architecture) -> dict[str, Any]:
    def sizes(what: str, full: Sequence[int]) -> list[int]:
        return [size_in(architecture, f"stages.{s}.{what}", size) for s, size in enumerate(full)]

    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "num_channels": config.channels,
        "embedding_size": config.stem_width,
        "hidden_sizes": sizes("width", config.stage_widths),
        "depths": sizes("depth", config.depths),
        "layer_type": config.block,
        "hidden_act": "relu",
        "downsample_in_first_stage": config.first_stage_stride == 2,
        "downsample_in_bottleneck": config.stride_in_first_conv,
    }
