"""Names and sizes of Hugging Face checkpoints in terms of our networks, both ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from supernets.pretrained.checkpoint import CheckpointError
from supernets.settings import BertConfig, ResNetConfig, VitConfig

Names = dict[str, str]
Config = VitConfig | BertConfig | ResNetConfig

PREFIXES = ("vit.", "deit.", "bert.", "resnet.")
SUPPORTED = ("vit", "deit", "bert", "resnet")


def read_config(config: Mapping[str, Any]) -> Config:
    """Sizes of a checkpoint. Raises CheckpointError for a family or variant we do not have."""
    family = config.get("model_type")
    if family not in SUPPORTED:
        raise CheckpointError(
            f"model.checkpoint: model_type {family!r} is not supported; supported are "
            f"{', '.join(SUPPORTED)}"
        )
    try:
        return _READERS[str(family)](config)
    except KeyError as error:
        raise CheckpointError(f"model.checkpoint: config.json has no {error}") from error
    except ValidationError as error:
        reasons = "; ".join(str(entry["msg"]) for entry in error.errors())
        raise CheckpointError(f"model.checkpoint: config.json is not usable: {reasons}") from error


def _require(config: Mapping[str, Any], key: str, allowed: object) -> None:
    if config.get(key, allowed) != allowed:
        raise CheckpointError(
            f"model.checkpoint: config.json has {key} {config[key]!r}; only {allowed!r} is "
            "supported"
        )


def _vit(config: Mapping[str, Any]) -> VitConfig:
    _require(config, "hidden_act", "gelu")
    distilled = config["model_type"] == "deit"
    both_heads = "DeiTForImageClassificationWithTeacher" in (config.get("architectures") or ())
    return VitConfig(
        image_size=config["image_size"],
        patch_size=config["patch_size"],
        channels=config.get("num_channels", 3),
        embed_dim=config["hidden_size"],
        depth=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        hidden_dim=config["intermediate_size"],
        qkv_bias=config.get("qkv_bias", True),
        layer_norm_eps=config.get("layer_norm_eps", 1e-12),
        prefix_tokens=2 if distilled else 1,
        head_tokens=2 if both_heads else 1,
    )


def _bert(config: Mapping[str, Any]) -> BertConfig:
    _require(config, "hidden_act", "gelu")
    _require(config, "position_embedding_type", "absolute")
    _require(config, "is_decoder", False)
    return BertConfig(
        vocab_size=config["vocab_size"],
        max_positions=config["max_position_embeddings"],
        token_types=config.get("type_vocab_size", 2),
        embed_dim=config["hidden_size"],
        depth=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        hidden_dim=config["intermediate_size"],
        layer_norm_eps=config.get("layer_norm_eps", 1e-12),
    )


def _resnet(config: Mapping[str, Any]) -> ResNetConfig:
    _require(config, "hidden_act", "relu")
    bottleneck = config.get("layer_type", "bottleneck") == "bottleneck"
    widths = tuple(config["hidden_sizes"])
    return ResNetConfig(
        image_size=config.get("image_size", 224),
        channels=config.get("num_channels", 3),
        block="bottleneck" if bottleneck else "basic",
        stem_width=config["embedding_size"],
        stem_kernel=7,
        stem_stride=2,
        stem_pool=True,
        depths=tuple(config["depths"]),
        stage_widths=widths,
        inner_widths=tuple(width // 4 for width in widths) if bottleneck else widths,
        first_stage_stride=2 if config.get("downsample_in_first_stage") else 1,
        stride_in_first_conv=bool(config.get("downsample_in_bottleneck")),
    )


_READERS: dict[str, Callable[[Mapping[str, Any]], Config]] = {
    "vit": _vit,
    "deit": _vit,
    "bert": _bert,
    "resnet": _resnet,
}


def _layer(ours: str, theirs: str) -> Names:
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


def _norm(ours: str, theirs: str) -> Names:
    """BatchNorm: parameters and statistics."""
    kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in kinds}


def names(config: Config) -> Names:
    """Our tensor names -> a checkpoint's, without its model prefix; heads are not included."""
    if isinstance(config, VitConfig):
        return _vit_names(config)
    return _bert_names(config) if isinstance(config, BertConfig) else _resnet_names(config)


def _vit_names(config: VitConfig) -> Names:
    found = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        **_layer("patch_embed", "embeddings.patch_embeddings.projection"),
        **_layer("norm", "layernorm"),
    }
    for index in range(config.depth):
        ours, theirs = f"blocks.{index}", f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            found |= _layer(f"{ours}.attention.{part}", f"{theirs}.attention.attention.{part}")
        found |= _layer(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        found |= _layer(f"{ours}.norm1", f"{theirs}.layernorm_before")
        found |= _layer(f"{ours}.norm2", f"{theirs}.layernorm_after")
        found |= _layer(f"{ours}.mlp.fc1", f"{theirs}.intermediate.dense")
        found |= _layer(f"{ours}.mlp.fc2", f"{theirs}.output.dense")
    if not config.qkv_bias:
        unbiased = ("query.bias", "key.bias", "value.bias")
        return {name: other for name, other in found.items() if not name.endswith(unbiased)}
    return found


def _bert_names(config: BertConfig) -> Names:
    found = {
        "embeddings.word.weight": "embeddings.word_embeddings.weight",
        "embeddings.position.weight": "embeddings.position_embeddings.weight",
        "embeddings.token_type.weight": "embeddings.token_type_embeddings.weight",
        **_layer("embeddings.norm", "embeddings.LayerNorm"),
        **_layer("pooler", "pooler.dense"),
    }
    for index in range(config.depth):
        ours, theirs = f"blocks.{index}", f"encoder.layer.{index}"
        for part in ("query", "key", "value"):
            found |= _layer(f"{ours}.attention.{part}", f"{theirs}.attention.self.{part}")
        found |= _layer(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        found |= _layer(f"{ours}.attention_norm", f"{theirs}.attention.output.LayerNorm")
        found |= _layer(f"{ours}.mlp.fc1", f"{theirs}.intermediate.dense")
        found |= _layer(f"{ours}.mlp.fc2", f"{theirs}.output.dense")
        found |= _layer(f"{ours}.mlp_norm", f"{theirs}.output.LayerNorm")
    return found


def _resnet_names(config: ResNetConfig) -> Names:
    stem = "embedder.embedder"
    found = {"stem.conv.weight": f"{stem}.convolution.weight"}
    found |= _norm("stem.norm", f"{stem}.normalization")
    for stage, depth in enumerate(config.depths):
        for index in range(depth):
            ours, theirs = f"stages.{stage}.{index}", f"encoder.stages.{stage}.layers.{index}"
            for number in range(len(config.block_kernels)):
                inner = f"{theirs}.layer.{number}"
                found[f"{ours}.conv{number + 1}.weight"] = f"{inner}.convolution.weight"
                found |= _norm(f"{ours}.norm{number + 1}", f"{inner}.normalization")
            if config.has_shortcut(stage, index):
                found[f"{ours}.shortcut.weight"] = f"{theirs}.shortcut.convolution.weight"
                found |= _norm(f"{ours}.shortcut_norm", f"{theirs}.shortcut.normalization")
    return found


def head_names(config: Config) -> tuple[str, ...]:
    """A checkpoint's classifiers; two whose outputs are averaged for a distilled DeiT."""
    if isinstance(config, ResNetConfig):
        return ("classifier.1",)
    if isinstance(config, VitConfig) and config.head_tokens == 2:
        return ("cls_classifier", "distillation_classifier")
    return ("classifier",)
