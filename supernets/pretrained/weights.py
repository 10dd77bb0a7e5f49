"""Weights to start from: a checkpoint's, translated into our names, or random ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from supernets.families.hugging_face import CheckpointError, HuggingFace
from supernets.families.registry import FAMILIES
from supernets.families.sizes import Sizes
from supernets.families.super_network import SuperNetwork
from supernets.model_settings import ModelSettings
from supernets.pretrained.checkpoint import Checkpoint, open_checkpoint
from supernets.pretrained.classifier import classifier
from supernets.pretrained.config_json import hugging_face, read_config, reasons
from supernets.pretrained.tensors import FLOATS, Given, fits, read_tensors, unwrapped
from supernets.tasks.task import Reading, Task

INITIAL_STD = 0.02
TOKEN_HEADS = ("classifier",)
"""What transformers calls the head of tokens, whatever the family."""


def model_config(settings: ModelSettings) -> Sizes:
    """Sizes of the network to start from."""
    if settings.checkpoint is None:
        assert settings.sizes is not None, "the settings hold exactly one"
        return settings.sizes
    return checkpoint_sizes(open_checkpoint(settings.checkpoint))


def checkpoint_sizes(checkpoint: Checkpoint) -> Sizes:
    """Sizes of a checkpoint's network: from config.json, or read off the weights without one."""
    if "model_type" in checkpoint.config:
        return read_config(checkpoint.config)
    weights = {unwrapped(name): tensor for name, tensor in checkpoint.weights().items()}
    for name in FAMILIES:
        bare = hugging_face(name).bare
        if bare is not None and bare.known(weights):
            try:
                return bare.sizes(weights, checkpoint.config)
            except (KeyError, IndexError) as error:
                raise CheckpointError(
                    f"model.checkpoint: {checkpoint.path} is not a whole {name}: there is no "
                    f"{error.args[0]}"
                ) from error
            except ValidationError as error:
                raise CheckpointError(
                    f"model.checkpoint: {checkpoint.path} is no {name} that can be used: "
                    f"{reasons(error, hugging_face(name))}"
                ) from error
    raise CheckpointError(
        "model.checkpoint: without a model_type in config.json only ordinary ResNets in "
        "torchvision's or timm's naming (conv1, layer1.0.conv1, ..., no groups) and BEiT-3 in its "
        "published naming (beit3.encoder.layers.0.self_attn.q_proj.A.weight, ...) are known"
        f"{_folder_hint(checkpoint.path)}"
    )


def _folder_hint(path: Path) -> str:
    """What to give in place of a file out of a folder in the Hugging Face format."""
    if not (path.is_file() and (path.parent / "config.json").is_file()):
        return ""
    return f"; {path.name} lies beside a config.json: give their folder, {path.parent}"


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
                parameter.mul_(module.groups**0.5)  # a group's outputs are its fan-out
            else:
                nn.init.trunc_normal_(parameter, std=INITIAL_STD, generator=generator)


def scale_new_head(network: SuperNetwork) -> None:
    """Let a new classifier's answers vary as Xavier means them to, whatever the last norm's gains.

    Those of DINOv2-small are 3.3: its first losses of 10 classes were 4.4, and after 76 steps it
    knew 40 % of 400 images, where it knew 45 % with a classifier that began at 0.02. That
    deviation, which transformers draws, is not for all: what MiniLM's pooler puts out is small and
    then counts too little (73 against 83 % of 600 texts, 150 classes, 141 steps).
    """
    norm, between = getattr(network, "norm", None), getattr(network, "pooler", None)
    if isinstance(norm, nn.LayerNorm) and between is None and isinstance(network.head, nn.Linear):
        with torch.no_grad():
            network.head.weight.div_(norm.weight.square().mean().sqrt().clamp_min(1))


def read_weights(
    network: SuperNetwork, checkpoint: Checkpoint, task: Task, head: str
) -> tuple[dict[str, Tensor], list[str]]:
    """A checkpoint's tensors by our names, and what the user should know.

    network: for its names and shapes; it may be on torch's device without memory.

    Raises CheckpointError for missing tensors, wrong shapes, numbers that are not finite, tensors
    that compute what our network does not, or labels that are not the data's.
    """
    config, own = network.config, checkpoint_sizes(checkpoint)
    known = hugging_face(config.family)
    given = read_tensors(checkpoint, known)
    variant, wanted_one = known.variant_of(own), known.variant_of(config)
    heads = TOKEN_HEADS if task.reads == "tokens" else variant.heads
    if variant is not wanted_one and head == "keep":
        raise CheckpointError(
            f"model.head: keep is not possible, the checkpoint's head is {variant.architecture}'s, "
            f"the data asks for {wanted_one.architecture}'s; use auto or new"
        )
    head = head if variant is wanted_one else "new"
    ready = known.prepare({name: _single(t) for name, t in given.tensors.items()}, own, config)
    wanted = known.renaming(name for name in network.state_dict() if not name.startswith("head."))
    fresh, notes = (
        ({}, []) if task.taught_alone else classifier(checkpoint.config, ready, heads, task, head)
    )
    used = {*wanted.values(), *(given.tensors.keys() - ready.keys())}
    if fresh:
        used |= {f"{name}.{kind}" for name in heads for kind in ("weight", "bias")}
    left_out = {name for m in known.optional for name in _of(known.names[m], given, task.reads)}
    unknown = given.unknown(known, used | left_out, keeps_head=bool(fresh))
    notes += _refuse_missing(known, wanted, ready, unknown, checkpoint)
    _refuse_unknown(unknown, checkpoint, network)
    given.require_numbers(used)
    notes += _left_over(known, given, used)
    translated = {ours: ready[theirs] for ours, theirs in wanted.items() if theirs in ready}
    tensors = {**translated, **fresh}
    _refuse_shapes(network, tensors, {ours: given.spelling.get(n, n) for ours, n in wanted.items()})
    return tensors, notes


def _single(tensor: Tensor) -> Tensor:
    """In single precision, as transformers loads and then computes, whatever it is stored in."""
    return tensor.float() if tensor.dtype in FLOATS else tensor


def _of(module: str, given: Given, reads: Reading) -> set[str]:
    """Tensors of a module that only the family's own classifier reads, where it is not asked."""
    return set() if reads == "class" else {n for n in given.tensors if n.startswith(f"{module}.")}


def _refuse_missing(
    known: HuggingFace,
    wanted: Mapping[str, str],
    ready: Mapping[str, Tensor],
    unknown: Sequence[str],
    checkpoint: Checkpoint,
) -> list[str]:
    """Notes about modules that may be missing; raises CheckpointError about the others."""
    absent = [ours for ours, theirs in sorted(wanted.items()) if theirs not in ready]
    optional = {module for module in known.optional if f"{module}.weight" in absent}
    missing = [
        wanted[name]
        for name in absent
        if name.rpartition(".")[0] not in optional and not name.endswith("num_batches_tracked")
    ]
    if missing:
        others = f"; it has others, such as {unknown[0]}" if unknown else ""
        raise CheckpointError(
            f"model.checkpoint: {checkpoint.path} has no weights for {len(missing)} of "
            f"{len(wanted)} tensors, such as {', '.join(missing[:3])}{others}"
        )
    return [
        f"model.checkpoint: it has no {known.names[module]}; a new one is trained"
        for module in sorted(optional)
    ]


def _refuse_unknown(unknown: Sequence[str], checkpoint: Checkpoint, network: SuperNetwork) -> None:
    if unknown:
        raise CheckpointError(
            f"model.checkpoint: {checkpoint.path} computes with {len(unknown)} tensors that a "
            f"{network.config.family} network of these sizes does not have, such as "
            f"{', '.join(unknown[:3])}; give a checkpoint without them (adapters merged, weights "
            "not quantized), or set model.head to new if they belong to another head"
        )


def _left_over(known: HuggingFace, given: Given, used: Collection[str]) -> list[str]:
    """Notes about tensors that no classifier computes with."""
    rest, notes = given.tensors.keys() - set(used), []
    parts = {f"of {part} are left out": patterns for part, patterns in known.left_out.items()}
    for what, patterns in {**parts, "are not needed": ("*",)}.items():
        found = sorted(name for name in rest if fits(name, patterns))
        rest -= set(found)
        if found:
            shown = given.spelling[found[0]]
            notes.append(f"model.checkpoint: {len(found)} tensors {what}, such as {shown}")
    return notes


def _refuse_shapes(
    network: SuperNetwork, tensors: Mapping[str, Tensor], spelling: Mapping[str, str]
) -> None:
    """Raise CheckpointError for weights of other sizes. spelling: our names -> the file's."""
    own = network.state_dict()
    wrong = [
        f"{spelling.get(name, name)} is {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if tensor.shape != own[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"model.checkpoint: sizes of the weights are not those of config.json: {wrong[0]}"
            + (f" and {len(wrong) - 1} more" if wrong[1:] else "")
        )
