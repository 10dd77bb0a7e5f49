"""What a sentence-transformers folder says of its network: how tokens become one vector."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from supernets.families.hugging_face import CheckpointError
from supernets.pretrained.checkpoint import Checkpoint, read_json
from supernets.tasks.embedding import MODULES_FILE, POOLINGS

TOKENS_FILES = "sentence_*_config.json"
"""sentence_bert_config.json, or of older folders one named after another architecture."""
LEGACY = "pooling_mode_"
KNOWN = ("Transformer", "Pooling", "Normalize", "Dropout")
"""Modules that leave the direction of vectors to the network and its pooling."""


def embedder_folder(checkpoint: Checkpoint) -> Path | None:
    """Where modules.json lies: in the checkpoint's folder or, of old ones, above it."""
    folders = (checkpoint.folder, checkpoint.folder.parent)
    return next((folder for folder in folders if (folder / MODULES_FILE).is_file()), None)


def pooling_of(checkpoint: Checkpoint) -> str:
    """`mean` or `cls`; the mean where the folder says nothing.

    Raises CheckpointError for a pooling, or a module behind it, that we do not have.
    """
    folder = embedder_folder(checkpoint)
    if folder is None:
        return "mean"
    for module in _modules(folder / MODULES_FILE):
        kind = str(module.get("type")).rpartition(".")[2]
        if kind not in KNOWN:
            raise CheckpointError(
                f"model.checkpoint: {folder / MODULES_FILE} names a module {kind}, which changes "
                f"the vectors; served are {', '.join(KNOWN)}"
            )
        if kind == "Pooling":
            return _mode(folder / str(module.get("path")) / "config.json")
    return "mean"


def tokens_of(checkpoint: Checkpoint) -> float | None:
    """Tokens of a text that sentence-transformers takes, None where the folder does not say it.

    Raises CheckpointError for what is no number of tokens.
    """
    path = _tokens_file(checkpoint)
    given = None if path is None else read_json(path).get("max_seq_length")
    if given is not None and not (isinstance(given, int | float) and given >= 1):
        raise CheckpointError(
            f"model.checkpoint: max_seq_length in {path} is {given!r}, but must be a number of "
            "tokens; give one, or leave it out"
        )
    return given


def lowercases(checkpoint: Checkpoint) -> bool:
    """Whether sentence-transformers lowercases texts before its tokenizer sees them."""
    path = _tokens_file(checkpoint)
    return path is not None and bool(read_json(path).get("do_lower_case"))


def _tokens_file(checkpoint: Checkpoint) -> Path | None:
    return next(iter(sorted(checkpoint.folder.glob(TOKENS_FILES))), None)


def _modules(path: Path) -> list[dict[str, Any]]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"model.checkpoint: {path} is no readable JSON ({error})") from error
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise CheckpointError(f"model.checkpoint: {path} must hold a list of modules")
    return listed


def _mode(path: Path) -> str:
    """The pooling that a config.json states, in today's spelling or the older one."""
    config = read_json(path)
    stated = config.get("pooling_mode")
    older = [
        key.removeprefix(LEGACY) for key, on in config.items() if key.startswith(LEGACY) and on
    ]
    modes = [stated] if isinstance(stated, str) else list(stated or older or ["mean"])
    names = [str(mode).removesuffix("_token").removesuffix("_tokens") for mode in modes]
    if len(names) != 1 or names[0] not in POOLINGS:
        wanted = "+".join(names)
        near = difflib.get_close_matches(wanted, POOLINGS, n=len(POOLINGS), cutoff=0)
        raise CheckpointError(
            f"model.checkpoint: {path} asks for pooling {wanted!r}; served are {', '.join(near)}"
        )
    return names[0]
