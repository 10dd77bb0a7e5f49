"""Texts as token ids: what encodes them, inputs padded to the longest text, splits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from supernets.data.data import Batch, Split
from supernets.data.taught import Taught
from supernets.data.vocabulary.pieces import Ids, Pieces
from supernets.settings import DataSettings
from supernets.space.space import FULL, VOCABULARY, Architecture, size_in
from supernets.tasks.classification import CLASSIFICATION
from supernets.tasks.task import UNASKED, Targets, Task

SPECIAL = ("pad_token", "bos_token", "eos_token", "cls_token", "sep_token", "mask_token")
Encoded = tuple[list[Tensor], Targets]
"""Texts `(2, T)` and their targets."""


@dataclass(frozen=True)
class TextPreprocessor:
    """A tokenizer and the most tokens a text may have; longer texts are cut.

    uses: how often training texts use each row of the network's table `(rows,)`, by which smaller
    vocabularies are chosen. fixed: how many of the first ids are the same in all of them.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    uses: Ids | None = field(default=None, compare=False, repr=False)
    fixed: int = 0
    notes: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def pieces(self) -> Pieces:
        """The pieces in the order in which they are kept.

        Raises ValueError for a tokenizer that cannot be cut.
        """
        assert self.uses is not None, "texts of a split tell what they use"
        return Pieces.by_use(self.tokenizer, self.uses, self.fixed)

    def seen_by(self, architecture: Architecture) -> TextPreprocessor:
        """What a sub-network's texts are encoded with."""
        size = size_in(architecture, VOCABULARY, 0)
        if not self.is_cut_by(size):
            return self
        return TextPreprocessor(self.pieces.cut(size), self.max_length)

    def config_json(self, architecture: Architecture) -> dict[str, int]:
        """Fields of config.json about special tokens, which a smaller vocabulary renumbers."""
        seen = self.seen_by(architecture)
        if seen is self:
            return {}
        ids = {f"{name}_id": getattr(seen.tokenizer, f"{name}_id") for name in SPECIAL}
        return {name: number for name, number in ids.items() if number is not None}

    def is_cut_by(self, size: int) -> bool:
        """Whether a vocabulary of so many pieces (0: all of them) is a smaller one."""
        if not size:
            return False
        assert self.uses is not None, "texts of a split tell what they use"
        return size < len(self.uses)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, those of added entries included; ids may have gaps."""
        return max(self.tokenizer.get_vocab().values(), default=-1) + 1

    @property
    def closing(self) -> int:
        """How many special tokens end every text."""
        ids = self.tokenizer("a")["input_ids"]
        marks = {*self.tokenizer.all_special_ids} - {self.tokenizer.unk_token_id}
        return next((n for n, one in enumerate(reversed(ids)) if one not in marks), len(ids))

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Tensor]:
        """Token ids and token types of each text (and its pair), `(2, T)`.

        Raises ValueError if the most tokens leave no room for a text.
        """
        special = self.tokenizer.num_special_tokens_to_add(pair=pairs is not None)
        if self.max_length <= special:
            raise ValueError(
                f"data.max_length: {self.max_length} tokens, of which the tokenizer needs "
                f"{special} for itself; give more"
            )
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            truncation=True,
            max_length=self.max_length,
            return_token_type_ids=True,
        )
        rows = zip(encoded["input_ids"], encoded["token_type_ids"], strict=True)
        return [torch.tensor(row) for row in rows]

    def encode_words(
        self, texts: Sequence[Sequence[str]], tags: Iterable[Sequence[int]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Texts of words as `encode` gives them, and each word's tag at its first piece `(T,)`.

        Raises ValueError for a tokenizer that does not tell whose piece a token is.
        """
        if not self.tokenizer.is_fast:
            raise ValueError(
                f"task: tokens, but the checkpoint's tokenizer ({type(self.tokenizer).__name__}) "
                "does not tell which word a piece belongs to; save a fast one (tokenizer.json) "
                "beside the checkpoint"
            )
        if not texts:
            return [], []
        encoded = self.tokenizer(
            [list(words) for words in texts],
            is_split_into_words=True,
            truncation=True,
            max_length=self.max_length,
            return_token_type_ids=True,
        )
        rows = zip(encoded["input_ids"], encoded["token_type_ids"], strict=True)
        targets = [
            torch.tensor(_at_first_pieces(encoded.word_ids(number), own))
            for number, own in enumerate(tags)
        ]
        return [torch.tensor(row) for row in rows], targets

    def count_cut(
        self, encoded: Sequence[Tensor], texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> int:
        """How many of the texts were cut when they were encoded."""
        full = [row for row, text in enumerate(encoded) if text.shape[1] >= self.max_length]
        if not full:
            return 0
        whole = self.tokenizer(
            [texts[row] for row in full],
            None if pairs is None else [pairs[row] for row in full],
            is_split_into_words=not isinstance(texts[0], str),
            verbose=False,  # no advice to cut them
        )
        return sum(len(ids) > self.max_length for ids in whole["input_ids"])

    def save(self, folder: Path, architecture: Architecture = FULL) -> None:
        """Write the tokenizer files that AutoTokenizer reads, in any version of transformers; the
        one of the library tokenizers cuts texts by itself."""
        tokenizer = self.seen_by(architecture).tokenizer
        if tokenizer.is_fast:
            tokenizer.backend_tokenizer.enable_truncation(self.max_length)
        tokenizer.save_pretrained(folder)
        file = folder / "tokenizer_config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        config["model_max_length"] = self.max_length
        if config.get("tokenizer_class") == "TokenizersBackend":
            config["tokenizer_class"] = "PreTrainedTokenizerFast"  # its name before version 5
        file.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _at_first_pieces(words: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    """The tag of a word at the first of the tokens that belong to it."""
    before = [None, *words[:-1]]
    return [
        UNASKED if word is None or word == last else int(tags[word])
        for word, last in zip(words, before, strict=True)
    ]


@dataclass(frozen=True)
class TokenNoise:
    """Replaces tokens of texts at random: half by `mask_id`, half by tokens of other texts.

    Each text has its own rate between none and twice `part`. special: ids that stay. common: ids
    to draw from, as often as texts have them.
    """

    part: float
    mask_id: int
    special: Tensor
    common: Tensor

    def __call__(self, ids_BT: Tensor, generator: torch.Generator) -> Tensor:
        """Ids of the changed texts."""
        rate_B1 = 2 * self.part * torch.rand(len(ids_BT), 1, generator=generator)
        chance, half, pick = torch.rand(3, *ids_BT.shape, generator=generator)
        other = self.common[(pick * len(self.common)).long()]
        noise = torch.where(half < 0.5, self.mask_id, other)
        replaced = (chance < rate_B1) & ~torch.isin(ids_BT, self.special)
        return torch.where(replaced, noise, ids_BT)


@dataclass(frozen=True)
class Writing:
    """Raw texts, and what they were encoded with. encode: all of them, and their targets."""

    preprocessor: TextPreprocessor
    encode: Callable[[TextPreprocessor], Encoded]
    _known: dict[int, Encoded] = field(default_factory=dict, repr=False)

    def in_pieces(self, size: int) -> Encoded:
        """All texts in so many pieces, by the ids that these have in the whole vocabulary."""
        if size not in self._known:
            preprocessor = self.preprocessor
            texts, targets = self.encode(preprocessor.seen_by({VOCABULARY: size}))
            order = torch.from_numpy(preprocessor.pieces.order)
            self._known[size] = [torch.stack([order[ids], types]) for ids, types in texts], targets
        return self._known[size]


@dataclass(frozen=True)
class TextSplit(Split):
    """Encoded texts `(2, T)` with targets, of tagged words one `(T,)` a text.

    inputs: those that the network takes. writing: the raw texts, where they are known; these are
    `rows` of them, or all.
    """

    texts: Sequence[Tensor]
    labels: Targets
    pad_id: int
    inputs: Sequence[str]
    noise: TokenNoise | None = None
    task: Task = CLASSIFICATION
    writing: Writing | None = None
    rows: Tensor | None = None
    _seen: dict[int, TextSplit] = field(default_factory=dict, init=False, repr=False)

    @property
    def augmented(self) -> bool:
        """Whether tokens are replaced."""
        return self.noise is not None

    def noisy(self, part: float, tokenizer: PreTrainedTokenizerBase) -> TextSplit:
        """The same texts with `part` of their tokens replaced each time they are shuffled."""
        special = torch.tensor(tokenizer.all_special_ids)
        mask_id = tokenizer.mask_token_id
        noise = TokenNoise(
            part,
            tokenizer.unk_token_id if mask_id is None else mask_id,
            special,
            self._common(special),
        )
        return replace(self, noise=noise)

    @cached_property
    def without_noise(self) -> TextSplit:
        """The same texts without noise."""
        return self if self.noise is None else replace(self, noise=None)

    def _common(self, special: Tensor) -> Tensor:
        ids = torch.cat([text[0] for text in self.texts])
        return ids[~torch.isin(ids, special)]

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens of each text `(n,)`."""
        return torch.tensor([text.shape[1] for text in self.texts])

    def part(self, rows: Tensor) -> TextSplit:
        """These texts alone."""
        places = rows.tolist()
        given = self.labels
        labels: Targets
        if isinstance(given, Taught):
            labels = given.part(rows)
        else:
            labels = given[rows] if isinstance(given, Tensor) else [given[row] for row in places]
        own = rows if self.rows is None else self.rows[rows]
        texts = [self.texts[row] for row in places]
        return replace(self, texts=texts, labels=labels, rows=own)

    def seen_by(self, architecture: Architecture) -> TextSplit:
        """The texts in the sub-network's pieces; targets of words lie at other tokens then."""
        size = size_in(architecture, VOCABULARY, 0)
        if self.writing is None or not self.writing.preprocessor.is_cut_by(size):
            return self
        if size not in self._seen:
            self._seen[size] = self._in_pieces(self.writing, size)
        return self._seen[size]

    def _in_pieces(self, writing: Writing, size: int) -> TextSplit:
        texts, targets = writing.in_pieces(size)
        if self.rows is not None:
            places = self.rows.tolist()
            texts, targets = [texts[row] for row in places], [targets[row] for row in places]
        own = self.labels if self.task.once_per_sample else targets
        split = replace(self, texts=texts, labels=own, writing=None)
        if self.noise is None:
            return split
        return replace(split, noise=replace(self.noise, common=split._common(self.noise.special)))

    def rewritten(self, batch: Batch, architecture: Architecture) -> Batch:
        """The same texts in the sub-network's pieces."""
        seen = self.seen_by(architecture)
        return batch if seen is self else seen.batch(batch.rows.cpu(), device=batch.labels.device)

    def inputs_of(
        self, rows: Tensor, generator: torch.Generator | None, device: torch.device
    ) -> dict[str, Tensor]:
        """Ids and what goes with them, `(B, longest)`, on the CPU."""
        inputs = pad([self.texts[row] for row in rows.tolist()], self.pad_id, self.inputs)
        if generator is not None and self.noise is not None:
            inputs["input_ids"] = self.noise(inputs["input_ids"], generator)
        return inputs


def pad(texts: Sequence[Tensor], pad_id: int, names: Iterable[str]) -> dict[str, Tensor]:
    """Stack texts `(2, T)` of different length into the named inputs `(B, longest)`."""
    shape = (len(texts), max(text.shape[1] for text in texts))
    ids = torch.full(shape, pad_id)
    types, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    for row, text in enumerate(texts):
        length = text.shape[1]
        ids[row, :length], types[row, :length] = text
        mask[row, :length] = 1
    made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: made[name] for name in names}


def longest(settings: DataSettings, positions: int, own: float = math.inf) -> int:
    """Most tokens of a text: as asked for, else what the model and its tokenizer's `own` files say.

    Raises ValueError for more than a model has positions.
    """
    length = settings.max_length or int(min(positions, own))
    if length > positions:
        raise ValueError(
            f"data.max_length: {length} tokens, but the model has {positions} positions; give at "
            f"most {positions}"
        )
    return length


def preparing(
    tokenizer: PreTrainedTokenizerBase, settings: DataSettings, positions: int, own: float
) -> TextPreprocessor:
    """A tokenizer with the most tokens of a text, and what to say of that; see `longest`."""
    length = longest(settings, positions, own)
    notes: tuple[str, ...] = ()
    if settings.max_length is None and length < positions:
        notes = (
            f"model.checkpoint: its tokenizer takes {length} tokens of a text (the network "
            f"{positions}), longer texts are cut there; data.max_length sets another length",
        )
    return TextPreprocessor(tokenizer, length, notes=notes)


def refuse_unknown_ids(preprocessor: TextPreprocessor, vocab_size: int) -> None:
    """Raise ValueError for a tokenizer of more entries than a model's vocabulary."""
    if preprocessor.vocab_size > vocab_size:
        raise ValueError(
            f"model.checkpoint: the tokenizer gives ids up to {preprocessor.vocab_size - 1}, but "
            f"the model's vocabulary has {vocab_size} entries; they do not belong together"
        )
