"""The kinds of fast tokenizers whose vocabularies can be cut, by the models of their files.

What a model is here is the `model` part of tokenizer.json.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

Model = dict[str, Any]
Ids = dict[str, int]


class Kind(ABC):
    """One kind of model: the pieces it has, those that it cannot do without, and how it is cut."""

    @abstractmethod
    def pieces(self, model: Model) -> Ids:
        """Piece -> its id."""

    @abstractmethod
    def single(self, model: Model, piece: str) -> list[str]:
        """The pieces of one character each that another piece can always be written in."""

    @abstractmethod
    def cut(self, model: Model, ids: Mapping[int, int]) -> None:
        """Keep pieces alone whose ids there are, under the ids that these map to."""

    def parts(self, model: Model) -> Mapping[int, tuple[int, int]]:
        """Piece -> the two that it is put together from, the last made first; none if it is not."""
        return {}

    def atoms(self, model: Model) -> set[int]:
        """Ids of pieces without which a text could not be written: single characters and bytes,
        and what is written with a character that is no piece of its own."""
        pieces = self.pieces(model)
        return {
            number
            for piece, number in pieces.items()
            if (model.get("byte_fallback") and _is_byte(piece))
            or len(letters := self.single(model, piece)) == 1
            or not all(letter in pieces for letter in letters)
        }


class WordPiece(Kind):
    """The longest piece that a word begins with, then the longest of the rest."""

    def pieces(self, model: Model) -> Ids:
        """See `Kind`."""
        return dict(model["vocab"])

    def single(self, model: Model, piece: str) -> list[str]:
        """All but the first are inside a word."""
        return _letters(piece, model["continuing_subword_prefix"])

    def cut(self, model: Model, ids: Mapping[int, int]) -> None:
        """See `Kind`."""
        model["vocab"] = _renumbered(model["vocab"], ids)


class Unigram(Kind):
    """The likeliest pieces; an id is the place in the list of them."""

    def pieces(self, model: Model) -> Ids:
        """See `Kind`."""
        return {piece: number for number, (piece, _) in enumerate(model["vocab"])}

    def single(self, model: Model, piece: str) -> list[str]:
        """Its characters."""
        return list(piece)

    def atoms(self, model: Model) -> set[int]:
        """The piece for what is unknown too, without which the model is none."""
        unknown = model["unk_id"]
        return super().atoms(model) | ({unknown} if unknown is not None else set())

    def cut(self, model: Model, ids: Mapping[int, int]) -> None:
        """See `Kind`."""
        kept = [(ids[old], entry) for old, entry in enumerate(model["vocab"]) if old in ids]
        model["vocab"] = [entry for _, entry in sorted(kept)]
        if model["unk_id"] is not None:
            model["unk_id"] = ids[model["unk_id"]]


class BytePairs(Kind):
    """Pairs of pieces merged in the order of a list, from single characters or bytes on."""

    def pieces(self, model: Model) -> Ids:
        """See `Kind`."""
        return dict(model["vocab"])

    def single(self, model: Model, piece: str) -> list[str]:
        """As merging begins: all but the first are inside a word, the last ends it."""
        inside, end = model.get("continuing_subword_prefix"), model.get("end_of_word_suffix")
        return _letters(piece, inside or "", end or "")

    def atoms(self, model: Model) -> set[int]:
        """Only characters: what no merge makes, no text is written in."""
        pieces = self.pieces(model)
        return {
            number
            for piece, number in pieces.items()
            if _is_byte(piece) or len(self.single(model, piece)) == 1
        }

    def parts(self, model: Model) -> Mapping[int, tuple[int, int]]:
        """See `Kind`; a piece that several merges make is put together by the first."""
        pieces, found = self.pieces(model), dict[int, tuple[int, int]]()
        for left, right, made in self._merges(model):
            found.setdefault(pieces[made], (pieces[left], pieces[right]))
        return dict(reversed(found.items()))

    def cut(self, model: Model, ids: Mapping[int, int]) -> None:
        """Merges stay whose both parts and outcome are kept, in their order."""
        kept = _renumbered(model["vocab"], ids)
        model["merges"] = [
            [left, right]
            for left, right, made in self._merges(model)
            if left in kept and right in kept and made in kept
        ]
        model["vocab"] = kept

    @staticmethod
    def _merges(model: Model) -> Iterator[tuple[str, str, str]]:
        """Both parts and what they make; older files write them in one text."""
        inside = model.get("continuing_subword_prefix") or ""
        for merge in model["merges"]:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            yield left, right, left + right.removeprefix(inside)


KINDS: dict[str, Kind] = {"WordPiece": WordPiece(), "BPE": BytePairs(), "Unigram": Unigram()}
"""The `type` of a model -> its kind."""


def _renumbered(vocabulary: Ids, ids: Mapping[int, int]) -> Ids:
    kept = {piece: ids[number] for piece, number in vocabulary.items() if number in ids}
    return dict(sorted(kept.items(), key=lambda entry: entry[1]))


def _letters(piece: str, inside: str, end: str = "") -> list[str]:
    """Pieces of a character each; `inside` marks what does not begin a word, `end` what ends it."""
    last = end if piece != end and piece.endswith(end) else ""
    rest = piece.removesuffix(last)
    begins = not inside or rest == inside or not rest.startswith(inside)
    letters = rest if begins else rest.removeprefix(inside)
    found = [("" if begins and not place else inside) + c for place, c in enumerate(letters)]
    return [*found[:-1], found[-1] + last] if found else [piece]


def _is_byte(piece: str) -> bool:
    """Whether a piece stands for one byte of a character that is no piece, such as `<0x0A>`."""
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
