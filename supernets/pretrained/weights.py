"""Weights to start from: a checkpoint's, translated into our names, or random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.families.resnet.torchvision_names import (
    as_hugging_face,
    is_torchvision,
    torchvision_config,
)
from supernets.families.super_network import SuperNetwork
from supernets.pretrained.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from supernets.pretrained.hf_names import PREFIXES, Config, head_names, names, read_config
from supernets.settings import ModelSettings, ResNetConfig, VitConfig

INITIAL_STD = 0.02
OPTIONAL = {"pooler.weight", "pooler.bias"}
"""Trained anew where a checkpoint lacks them."""
NO_WEIGHTS = ("position_ids", "num_batches_tracked")


def model_config(settings: ModelSettings) -> Config:
    """Sizes of the network to start from."""
    if settings.checkpoint is None:
        given = settings.vit or settings.bert or settings.resnet
        assert given is not None, "the settings hold exactly one"
        return given
    checkpoint = open_checkpoint(settings.checkpoint)
    if "model_type" in checkpoint.config:
        return read_config(checkpoint.config)
    return torchvision_config(checkpoint.weights())


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights anew: linears Xavier, convolutions He, the rest a small normal; biases 0."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            module = network.get_submodule(name.rpartition(".")[0])
            if isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
                parameter.fill_(float(name.endswith("weight")))
            elif name.endswith("bias"):
                parameter.zero_()
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(parameter, generator=generator)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(parameter, mode="fan_out", generator=generator)
            else:
                nn.init.trunc_normal_(parameter, std=INITIAL_STD, generator=generator)


def load_weights(
    network: SuperNetwork, checkpoint: Checkpoint, label_names: Sequence[str], head: str
) -> list[str]:
    """Fill a network from a checkpoint; returns what the user should know.

    Raises CheckpointError for missing tensors, wrong shapes, or labels that are not the data's.
    """
    config = network.config
    given = {_unprefixed(name): tensor for name, tensor in checkpoint.weights().items()}
    if is_torchvision(given):
        assert isinstance(config, ResNetConfig)
        given = as_hugging_face(given, config)
    wanted = names(config)
    translated = {ours: given[theirs] for ours, theirs in wanted.items() if theirs in given}
    if isinstance(config, VitConfig):
        _reshape_vit(config, translated, given)
    _refuse_missing(wanted, translated, checkpoint)
    fresh, notes = _head(network, checkpoint, given, label_names, head)
    if OPTIONAL & wanted.keys() and not translated.keys() >= OPTIONAL:
        notes.append("model.checkpoint: it has no pooler; a new one is trained")
    unused = _unused(config, wanted, given)
    if unused:
        notes.append(f"model.checkpoint: not used: {len(unused)} tensors, such as {unused[0]}")
    _copy(network, {**translated, **fresh})
    return notes


def _refuse_missing(
    wanted: Mapping[str, str], translated: Mapping[str, Tensor], checkpoint: Checkpoint
) -> None:
    missing = [
        theirs
        for ours, theirs in sorted(wanted.items())
        if ours not in translated
        and ours not in OPTIONAL
        and not ours.endswith("num_batches_tracked")
    ]
    if missing:
        raise CheckpointError(
            f"model.checkpoint: {checkpoint.path} has no weights for {len(missing)} of "
            f"{len(wanted)} tensors, such as {', '.join(missing[:3])}"
        )


def _unused(config: Config, wanted: Mapping[str, str], given: Mapping[str, Tensor]) -> list[str]:
    """Tensors of the checkpoint that this network has no place for."""
    heads = {f"{head}.{kind}" for head in head_names(config) for kind in ("weight", "bias")}
    rest = given.keys() - set(wanted.values()) - heads - {"embeddings.distillation_token"}
    return [name for name in sorted(rest) if not name.endswith(NO_WEIGHTS)]


def _unprefixed(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _copy(network: SuperNetwork, tensors: Mapping[str, Tensor]) -> None:
    own = network.state_dict()
    wrong = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if tensor.shape != own[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"model.checkpoint: sizes of the weights are not those of config.json: {wrong[0]}"
            + (f" and {len(wrong) - 1} more" if wrong[1:] else "")
        )
    network.load_state_dict({name: t.float() for name, t in tensors.items()}, strict=False)


def _reshape_vit(config: VitConfig, ours: dict[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Patch convolution as a matrix, both learned tokens in one tensor, positions at our size."""
    if "patch_embed.weight" in ours:
        ours["patch_embed.weight"] = ours["patch_embed.weight"].flatten(1)
    distilled = theirs.get("embeddings.distillation_token")
    if distilled is not None and "cls_token" in ours:
        ours["cls_token"] = torch.cat([ours["cls_token"], distilled], dim=1)
    if "pos_embed" in ours:
        ours["pos_embed"] = resize_positions(
            ours["pos_embed"].float(), config.prefix_tokens, config.grid
        )


def resize_positions(pos_embed: Tensor, prefix_tokens: int, grid: int) -> Tensor:
    """Interpolate the position embeddings of a square of patches to another square."""
    prefix, patches = pos_embed[:, :prefix_tokens], pos_embed[:, prefix_tokens:]
    old = round(patches.shape[1] ** 0.5)
    if old == grid:
        return pos_embed
    square = patches.transpose(1, 2).unflatten(2, (old, old))
    resized = F.interpolate(square, size=(grid, grid), mode="bicubic")
    return torch.cat([prefix, resized.flatten(2).transpose(1, 2)], dim=1)


def _head(
    network: SuperNetwork,
    checkpoint: Checkpoint,
    given: Mapping[str, Tensor],
    label_names: Sequence[str],
    head: str,
) -> tuple[dict[str, Tensor], list[str]]:
    """The checkpoint's classifier in the data's order of labels, or nothing if a new one is due."""
    heads = head_names(network.config)
    if head == "new" or f"{heads[0]}.weight" not in given:
        return {}, ["model.checkpoint: a new classifier is trained"]
    size = given[f"{heads[0]}.weight"].shape[0]
    if size != len(label_names):
        if head == "keep":
            raise CheckpointError(
                f"model.head: keep is not possible, the checkpoint has {size} labels and the data "
                f"{len(label_names)}; use auto or new"
            )
        return {}, [
            f"model.checkpoint: its classifier for {size} labels is replaced by a new one for "
            f"{len(label_names)}"
        ]
    order = None if head == "keep" else _label_order(checkpoint.config, label_names)
    weight = torch.stack([given[f"{name}.weight"] for name in heads], dim=2).flatten(1)
    bias = torch.stack([given[f"{name}.bias"] for name in heads]).mean(dim=0)
    weight = weight / len(heads)
    if order is not None:
        weight, bias = weight[order], bias[order]
    return {"head.weight": weight, "head.bias": bias}, []


def _label_order(config: Mapping[str, Any], label_names: Sequence[str]) -> list[int] | None:
    """Rows of the classifier in the data's order; None if the checkpoint's labels have no names."""
    table = config.get("id2label") or {}
    theirs = [str(table[key]).lower() for key in sorted(table, key=int)]
    ours = [name.lower() for name in label_names]
    if not theirs or all(name.startswith("label_") for name in theirs):
        return None
    if sorted(theirs) != sorted(ours):
        different = sorted(set(theirs) ^ set(ours))[:6]
        raise CheckpointError(
            "model.checkpoint: its labels are as many as the data's, but not the same (only on one "
            f"side: {', '.join(different)}); set model.head to new, or to keep if only names differ"
        )
    return [theirs.index(name) for name in ours]
