"""The super-network of an experiment: from a checkpoint, from scratch, or one saved before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from hardware.processors import memory
from supernets import open_data
from supernets.data.data import Preprocessor, Split, TaskData
from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.data.images import ImageTextPreprocessor
from supernets.data.taught import Taught, ask_all
from supernets.data.text import TextPreprocessor, TextSplit
from supernets.families.registry import family
from supernets.families.sizes import Sizes
from supernets.families.super_network import CONFIG_FILE, WEIGHTS_FILE, SuperNetwork
from supernets.families.texts.kept_pieces import KeptPieces
from supernets.families.texts.transformer import TextSuperNetwork
from supernets.model_settings import ModelSettings
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.weights import initialise, model_config, read_weights, scale_new_head
from supernets.settings import DataSettings
from supernets.space.space import VOCABULARY, SearchSpace
from supernets.tasks.task import Reading

__all__ = [
    "Start",
    "load_data",
    "load_saved",
    "load_supernet",
    "order_pieces",
    "parts_of",
    "supernet",
]

STRETCHED = 2000
"""Validation texts that tell how much longer a smaller vocabulary makes texts."""


@dataclass(frozen=True)
class Start:
    """A super-network to start from, and what the user should know about how it was made."""

    network: SuperNetwork
    notes: tuple[str, ...] = ()


def load_data(
    settings: DataSettings,
    model: ModelSettings,
    task: str | None = None,
    known: TaskData | None = None,
) -> TaskData:
    """See `open_data.load_data`; where nothing is known of texts, the checkpoint's vectors for them
    are the targets, computed when they are first asked for."""
    data = open_data.load_data(settings, model, task, known)
    if data.task.metrics != ("cosine",):
        return data

    @cache
    def network() -> SuperNetwork:
        return load_supernet(model, data, 0).network

    def ask(split: Split) -> Tensor:
        return ask_all(network(), split)

    def taught(split: Split | None) -> Any:
        assert isinstance(split, TextSplit)
        return replace(split, labels=Taught(split, ask))

    judged = {"validation": taught(data.validation), "test": taught(data.test)}
    kept_back = None if data.kept_back is None else taught(data.kept_back)
    return replace(data, **judged, kept_back=kept_back)


def supernet(config: Sizes, num_labels: int, reads: Reading = "class") -> SuperNetwork:
    """A super-network of these sizes; its weights are not set.

    Raises ValueError for a family whose head cannot be given what it is to read.
    """
    network = resolve_name(family(config.family).network)(config, max(num_labels, 1))
    assert isinstance(network, SuperNetwork)
    network.read(reads)
    return network


def load_supernet(settings: ModelSettings, data: TaskData, seed: int) -> Start:
    """Build the super-network from the checkpoint, or with random weights at the given sizes.

    Weights that the checkpoint does not have, such as a new classifier's, are random too. Raises
    ValueError for a checkpoint that cannot be used.
    """
    config = _fitted(model_config(settings), data, settings.checkpoint is None)
    size, task = len(data.label_names), data.task
    outline = _outline(config, size, task.reads)
    tensors: Mapping[str, Tensor] = {}
    notes: list[str] = []
    if settings.checkpoint is not None:
        checkpoint = open_checkpoint(settings.checkpoint)
        tensors, notes = read_weights(outline, checkpoint, task, settings.head)
    network = supernet(config, size, task.reads)
    initialise(network, torch.Generator().manual_seed(seed))
    network.load_state_dict({name: t.float() for name, t in tensors.items()}, strict=False)
    if settings.checkpoint is not None and "head.weight" not in tensors:
        scale_new_head(network)
    if task.scale is not None:
        network.use_scale(task.scale, converted="head.weight" in tensors)
    return Start(network.eval(), tuple(notes))


def parameter_count(settings: ModelSettings, data: TaskData) -> int:
    """Parameters of the network to start from; nothing is read or allocated for them."""
    config = _fitted(model_config(settings), data, settings.checkpoint is None)
    with torch.device("meta"):
        return sum(
            p.numel() for p in supernet(config, len(data.label_names), data.task.reads).parameters()
        )


def has_new_classifier(settings: ModelSettings, data: TaskData) -> bool:
    """Whether a checkpoint brings no classifier for the data's labels, so that a new one is due.

    Not where nothing but its own answers is taught. Raises CheckpointError as `load_supernet` does.
    """
    if settings.checkpoint is None or data.task.taught_alone:
        return False
    config, task = _fitted(model_config(settings), data, False), data.task
    outline = _outline(config, len(data.label_names), task.reads)
    checkpoint = open_checkpoint(settings.checkpoint)
    return "head.weight" not in read_weights(outline, checkpoint, task, settings.head)[0]


def order_pieces(network: SuperNetwork, space: SearchSpace, data: TaskData) -> None:
    """Tell a network which pieces the vocabularies of a space keep, where they are smaller.

    Raises ValueError for a tokenizer that cannot be cut, and for fewer pieces than texts need.
    """
    if VOCABULARY not in space.column or not isinstance(network, TextSuperNetwork):
        return
    preprocessor, split = data.preprocessor, data.validation  # not what pieces are chosen by
    assert isinstance(preprocessor, TextPreprocessor)
    assert isinstance(split, TextSplit)
    sizes = [int(size) for size in space.genes[space.column[VOCABULARY]].choices]
    if sizes == [network.config.vocab_size]:
        return
    known = split.part(torch.arange(min(len(split), STRETCHED)))
    lengths = {size: float(known.seen_by({VOCABULARY: size}).lengths.sum()) for size in sizes}
    whole = float(known.lengths.sum())
    stretch = {size: length / whole for size, length in lengths.items()}
    network.keep_pieces(KeptPieces(preprocessor.pieces.order.tolist(), stretch))


def refuse_other_pieces(network: SuperNetwork, data: TaskData) -> None:
    """Raise ValueError for data in whose texts other pieces are used most than a network keeps."""
    kept = network.kept_pieces if isinstance(network, TextSuperNetwork) else None
    if kept is None:
        return
    assert isinstance(data.preprocessor, TextPreprocessor)
    if data.preprocessor.pieces.order.tolist() != list(kept.order):
        raise ValueError(
            "space.vocabulary: the tokenizer writes the training texts in other pieces than when "
            "this network was tuned (another version of the library tokenizers?); install that "
            "one again, or give the run another folder with --out"
        )


def _outline(config: Sizes, num_labels: int, reads: Reading) -> SuperNetwork:
    """The network without memory for its weights.

    Raises ValueError where the weights alone are more than this machine can hold.
    """
    with torch.device("meta"):
        network = supernet(config, num_labels, reads)
    needed = network.weight_bytes
    if needed > memory():
        raise ValueError(
            f"model: weights of these sizes take {needed:,} bytes, but there are {memory():,} of "
            f"memory; give smaller sizes ({config.family})"
        )
    return network


def _fitted(config: Sizes, data: TaskData, from_scratch: bool) -> Sizes:
    """Sizes that follow from the data: what a sample has, the images', and those of a vocabulary
    trained on it."""
    update: dict[str, Any] = {}
    images, texts = parts_of(data.preprocessor)
    if images is not None:
        update["image_size"] = images.image_size
    if texts is not None and from_scratch:
        update["vocab_size"] = texts.vocab_size
    if images is not None:
        config = config.given(getattr(data.preprocessor, "kinds", ("image",)))
    return read_sizes({**config.model_dump(), **update})


def parts_of(
    preprocessor: Preprocessor,
) -> tuple[ImagePreprocessor | None, TextPreprocessor | None]:
    """What prepares images, and what prepares texts."""
    if isinstance(preprocessor, ImageTextPreprocessor):
        return preprocessor.images, preprocessor.texts
    images = preprocessor if isinstance(preprocessor, ImagePreprocessor) else None
    return images, preprocessor if isinstance(preprocessor, TextPreprocessor) else None


def read_sizes(sizes: Mapping[str, Any]) -> Sizes:
    """Sizes from plain values; `family` says of what."""
    return family(sizes["family"]).sizes.model_validate(sizes)


def load_saved(folder: Path) -> SuperNetwork:
    """Read back what `SuperNetwork.save` wrote."""
    description = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    network = supernet(
        read_sizes(description["config"]),
        description["num_labels"],
        description.get("reads", "class"),
    )
    network.block_order = description["block_order"]
    network.remember(description)
    network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    network.activate({})
    return network.eval()
