"""How texts are written in vocabularies of different sizes: what a smaller one costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Written:
    """Texts in one vocabulary.

    tokens: of all texts, special ones included. unknown: tokens that stand for what cannot be
    written. filled: texts with as many tokens as a text may have.
    """

    texts: int
    tokens: int
    unknown: int
    filled: int

    @classmethod
    def of(cls, texts: Sequence[Tensor], unknown: int | None, max_length: int) -> Written:
        """Of encoded texts `(2, T)`. unknown: the id of that token, if there is one."""
        return cls(
            len(texts),
            sum(text.shape[1] for text in texts),
            0 if unknown is None else sum(int((text[0] == unknown).sum()) for text in texts),
            sum(text.shape[1] >= max_length for text in texts),
        )

    def __str__(self) -> str:
        each = f"{self.tokens / max(1, self.texts):.2f} tokens a text, {self.unknown:,} unknown"
        return each + (f", {self.filled:,} texts as long as allowed" if self.filled else "")


Vocabularies = Mapping[str, Mapping[str, Written]]
"""Pieces of a vocabulary -> where texts are from -> how they are written in it."""


def told(vocabularies: Vocabularies) -> Iterator[str]:
    """A line for every vocabulary and source, beside the whole one."""
    if not vocabularies:
        return
    whole = max(vocabularies, key=int)
    for size in vocabularies:
        if size != whole:
            yield from (f"vocabulary of {line}" for line in told_of(size, vocabularies))


def told_of(size: str, vocabularies: Vocabularies) -> Iterator[str]:
    """The same of one vocabulary, a line for every source."""
    whole = max(vocabularies, key=int)
    for source, written in vocabularies[size].items():
        yield (
            f"{int(size):,} of {int(whole):,} pieces, {source}: {written} "
            f"(in all pieces: {vocabularies[whole][source]})"
        )
