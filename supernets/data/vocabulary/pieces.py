"""The pieces of a fast tokenizer in the order in which smaller vocabularies keep them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from supernets.data.vocabulary.kinds import KINDS

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """A tokenizer, and its ids in the order in which they are kept `(rows,)`.

    The first `needed` are in every vocabulary: special tokens and what every text can be written
    with. A vocabulary of n pieces holds the first n; the place in the order is the id there, so
    that a piece has one id in all smaller vocabularies.
    """

    tokenizer: PreTrainedTokenizerBase
    order: Ids
    needed: int
    _cut: dict[int, PreTrainedTokenizerBase] = field(default_factory=dict, repr=False)

    @classmethod
    def by_use(cls, tokenizer: PreTrainedTokenizerBase, uses: Ids, fixed: int = 0) -> Self:
        """Pieces that texts have used most first, those used alike as the tokenizer has them.

        uses: of every row of the network's table `(rows,)`, those that no piece has included, which
        come last. fixed: how many of the first ids stay what they are.

        Raises ValueError for a tokenizer that cannot be cut.
        """
        content = _content(tokenizer)
        model = content["model"]
        kind = KINDS[model["type"]]
        pieces, parts = kind.pieces(model), kind.parts(model)
        uses, made_at = uses.copy(), {whole: -turn for turn, whole in enumerate(parts)}
        for whole, both in parts.items():  # who writes a piece, writes its parts on the way
            for part in both:
                uses[part] += uses[whole]
        first = list(range(fixed))
        needed = {*kind.atoms(model), *_special(content, pieces)} - set(first)
        first += sorted(needed)
        known = set(pieces.values()) - set(first)
        rest = sorted(known, key=lambda row: (-uses[row], made_at.get(row, 0), row))
        unused = sorted(set(range(len(uses))) - set(first) - known)
        return cls(tokenizer, np.array([*first, *rest, *unused], np.int64), len(first))

    @cached_property
    def ids(self) -> Ids:
        """The id in smaller vocabularies of every id `(rows,)`."""
        return np.argsort(self.order)

    def cut(self, size: int) -> PreTrainedTokenizerBase:
        """The tokenizer with the first so many pieces alone; nothing else of it changes.

        Raises ValueError for fewer pieces than texts need.
        """
        if size not in self._cut:
            self._refuse_too_few(size)
            content = _content(self.tokenizer)
            ids = {int(old): new for new, old in enumerate(self.order[:size])}
            KINDS[content["model"]["type"]].cut(content["model"], ids)
            for token in content["added_tokens"]:
                token["id"] = ids[token["id"]]
            for places, name in _numbered(content):
                value = places[name]
                places[name] = (
                    [ids[each] for each in value] if isinstance(value, list) else ids[value]
                )
            smaller = copy(self.tokenizer)
            smaller._tokenizer = Tokenizer.from_str(json.dumps(content))
            self._cut[size] = smaller
        return self._cut[size]

    def _refuse_too_few(self, size: int) -> None:
        rows = len(self.order)
        if size < self.needed:
            raise ValueError(
                f"space.vocabulary: {size:,} pieces of {rows:,} are too few: special tokens and "
                f"single characters, with which every text can be written, are {self.needed:,}; "
                f"give at least {ceil(1000 * self.needed / rows) / 1000} (or {self.needed})"
            )


def _content(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What tokenizer.json holds. Raises ValueError for a tokenizer that cannot be cut."""
    if not tokenizer.is_fast:
        kind = "is no fast one"
    else:
        assert isinstance(tokenizer, PreTrainedTokenizerFast)
        content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        if content["model"]["type"] in KINDS:
            return content
        kind = f"is of the kind {content['model']['type']}"
    raise ValueError(
        f"space.vocabulary: the tokenizer ({type(tokenizer).__name__}) {kind}; fast tokenizers "
        f"(tokenizer.json) of the kinds {', '.join(KINDS)} can be cut: leave vocabulary out, or "
        "save such a tokenizer beside the checkpoint"
    )


def _special(content: dict[str, Any], pieces: dict[str, int]) -> Iterator[int]:
    """Ids of tokens that are added to the model's, or around texts, or stand for the unknown."""
    yield from (token["id"] for token in content["added_tokens"])
    unknown = content["model"].get("unk_token")
    if unknown in pieces:
        yield pieces[unknown]
    for places, name in _numbered(content):
        value = places[name]
        yield from value if isinstance(value, list) else [value]


def _numbered(content: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Where ids stand outside the model and the added tokens: holder, and key or place in it."""
    if content["padding"] is not None:
        yield content["padding"], "pad_id"
    yield from _in_processor(content["post_processor"])


def _in_processor(processor: dict[str, Any] | None) -> Iterator[tuple[Any, Any]]:
    """The same of what puts special tokens around texts."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        yield from _in_processor(inner)
    for name in ("sep", "cls"):
        if name in processor:
            yield processor[name], 1
    for token in (processor.get("special_tokens") or {}).values():
        yield token, "ids"
