"""Checkpoints on disk or on the Hugging Face hub: a configuration and safetensors weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from supernets.families.hugging_face import CheckpointError

WANTED_FILES = ["*.json", "*.txt", "*.model", "*.spm", "*.safetensors"]  # sub-folders included
LFS_POINTER = b"version https://git-lfs"
"""How a file begins that stands for a large one in a clone without them."""
SENTENCEPIECE_FILES = ("sentencepiece.bpe.model", "spm.model", "beit3.spm")
PREPARATION_FILES = (
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    *SENTENCEPIECE_FILES,
)
WEIGHTS_FILE = "model.safetensors"
INDEX_PATTERN = "*.safetensors.index*.json"
ADAPTER_FILE = "adapter_config.json"


@dataclass(frozen=True)
class Checkpoint:
    """Where a checkpoint lies and what its configuration says (empty for a bare weights file)."""

    path: Path
    config: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder that also holds tokenizer and image processor files."""
        return self.path if self.path.is_dir() else self.path.parent

    def weights(self) -> dict[str, Tensor]:
        """All tensors by name. Raises CheckpointError if there are none or they are damaged."""
        tensors: dict[str, Tensor] = {}
        for file in self._weight_files():
            try:
                tensors |= load_file(file)
            except (SafetensorError, OSError) as error:
                if isinstance(error, SafetensorError) and _is_pointer(file):
                    raise CheckpointError(
                        f"model.checkpoint: {file} is a pointer to the weights in Git LFS, not the "
                        "weights; fetch them with `git lfs pull`"
                    ) from error
                raise CheckpointError(
                    f"model.checkpoint: {file} cannot be read as safetensors ({error}); "
                    "download or save it again"
                ) from error
        return tensors

    def files(self) -> list[Path]:
        """Every file that decides what the network computes and how its inputs are prepared."""
        beside = [self.folder / name for name in PREPARATION_FILES]
        config = [self.path / "config.json"] if self.path.is_dir() else []
        return [*self._weight_files(), *config, *(path for path in beside if path.is_file())]

    def _weight_files(self) -> list[Path]:
        """The files that transformers would take; another single one where those are not there."""
        if self.path.is_file():
            return [self.path]
        if (self.path / WEIGHTS_FILE).is_file():
            return [self.path / WEIGHTS_FILE]
        for index in sorted(self.path.glob(INDEX_PATTERN), key=lambda path: len(path.name)):
            files = [self.path / name for name in _indexed(index)]
            if missing := [file.name for file in files if not file.is_file()]:
                raise CheckpointError(
                    f"model.checkpoint: {index} lists {', '.join(missing)}, which "
                    "is not there; download or save the model again"
                )
            return files
        files = sorted(self.path.glob("*.safetensors"))
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "no *.safetensors file"
            raise CheckpointError(
                f"model.checkpoint: {self.path} must hold one {WEIGHTS_FILE} or an index of "
                f"several; found {found}. Pickled weights are never opened: load them with "
                "transformers and save_pretrained() them as safetensors"
            )
        return files


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(LFS_POINTER)) == LFS_POINTER


def _indexed(index: Path) -> list[str]:
    """Names of the files that an index lists. Raises CheckpointError if it lists none."""
    listed = read_json(index).get("weight_map")
    names = set(map(str, listed.values())) if isinstance(listed, dict) else set()
    if not names:
        raise CheckpointError(
            f"model.checkpoint: {index} lists no files under weight_map; save the model again"
        )
    return sorted(Path(name).name for name in names)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises CheckpointError if it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"model.checkpoint: {path} is no readable JSON ({error})") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"model.checkpoint: {path} must hold a JSON object")
    return data


def open_checkpoint(name: str) -> Checkpoint:
    """Find a checkpoint in a folder, in a file, or on the Hugging Face hub (downloaded once)."""
    path = Path(name).expanduser()
    if path.is_file():
        return Checkpoint(path, {})
    if not path.is_dir():
        path = _download(name)
    if not (path / "config.json").is_file():
        path = _transformer_module(path)
    if not (path / "config.json").is_file():
        raise CheckpointError(
            f"model.checkpoint: {path} has no config.json; give a folder in the Hugging Face "
            "format, or the .safetensors file itself for a torchvision or timm ResNet"
        )
    if (path / ADAPTER_FILE).is_file():
        raise CheckpointError(
            f"model.checkpoint: {path} holds an adapter ({ADAPTER_FILE}), which transformers would "
            "add to the weights; merge it (merge_and_unload) and save_pretrained() the result"
        )
    return Checkpoint(path, read_json(path / "config.json"))


def _transformer_module(path: Path) -> Path:
    """Where older sentence-transformers folders keep the transformer: a sub-folder of their own."""
    for folder in sorted(path.glob("0_*")):
        if (folder / "config.json").is_file():
            return folder
    return path


@cache  # each asks the hub what is newest
def _download(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=WANTED_FILES))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise CheckpointError(
            f"model.checkpoint: {name!r} is neither a folder here nor a Hugging Face model that "
            f"could be opened ({type(error).__name__}); check the path, the id and the network"
        ) from error
