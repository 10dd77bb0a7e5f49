"""The account of a data set: what was found, used and left out, and what looks wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from supernets.data.fingerprint import Contents, Hashes
from supernets.data.targets.targets import Values, counts, hashes
from supernets.data.vocabulary.written import Vocabularies, Written, told

SHOWN = 5
"""Class names that a line shows."""


@dataclass(frozen=True)
class SplitAccount:
    """Rows of one split: those found are those used and those left out, by reason.

    classes: class -> rows used; of several labels a row those that have it. cut: texts longer than
    the network takes. rows: those used, None where every one has one class.
    """

    found: int
    left_out: Mapping[str, int]
    classes: Mapping[str, int]
    cut: int = 0
    rows: int | None = None

    def __post_init__(self) -> None:
        counted = self.used + sum(self.left_out.values())
        assert self.found == counted, f"{self.found} rows found, {counted} accounted for"

    @property
    def used(self) -> int:
        """Rows used."""
        return sum(self.classes.values()) if self.rows is None else self.rows


@dataclass(frozen=True)
class DataAccount:
    """All splits, what belongs to none by reason, and inputs that several splits hold.

    shared: "a and b" -> inputs of b that a holds too. contradictions: inputs of train that
    have several labels. vocabularies: what the space's smaller ones cost.
    """

    COLUMNS: ClassVar = ("split", "rows found", "used", "left out", "rows used by class")

    splits: Mapping[str, SplitAccount]
    unused: Mapping[str, int] = field(default_factory=dict)
    shared: Mapping[str, int] = field(default_factory=dict)
    contradictions: int = 0
    vocabularies: Vocabularies = field(default_factory=dict)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(next(iter(self.splits.values())).classes)

    def rows(self) -> list[tuple[str, ...]]:
        """One split as cells under `COLUMNS`."""
        return [
            (
                name,
                f"{split.found:,}",
                f"{split.used:,}",
                ", ".join(f"{count:,} {reason}" for reason, count in split.left_out.items()) or "-",
                ", ".join(f"{label}: {rows:,}" for label, rows in split.classes.items()) or "-",
            )
            for name, split in self.splits.items()
        ]

    def lines(self) -> Iterator[str]:
        """The account in a few lines."""
        names = self.label_names
        if names:
            yield f"data: {len(names)} label{'s' * (len(names) != 1)}: {_some(names)}"
        for name, split in self.splits.items():
            gone = ", ".join(f"{count:,} {reason}" for reason, count in split.left_out.items())
            gone = f"; left out: {gone}" if gone else ""
            yield f"data: {name}: {split.used:,} rows used of {split.found:,}{gone}"
        yield from (f"data: {remark}" for remark in self.remarks())

    def remarks(self) -> Iterator[str]:
        """What is of no split, and what makes the figures of a run doubtful."""
        for reason, count in self.unused.items():
            yield f"not used: {count:,} {reason}"
        total = dict.fromkeys(self.label_names, 0)
        for name, split in self.splits.items():
            present = [label for label, rows in split.classes.items() if rows]
            if len(present) == 1:
                yield f"{name} has one class only ({present[0]!r})"
            if split.cut:
                yield f"texts of {name} cut at data.max_length: {split.cut:,}"
            for label, rows in split.classes.items():
                total[label] += rows
        rare = [label for label, rows in total.items() if 0 < rows < len(self.splits)]
        if rare:
            yield f"classes with fewer rows than there are splits: {_some(rare)}"
        for name, split in self.splits.items():
            lacking = [label for label, rows in split.classes.items() if not rows]
            if lacking:
                yield f"classes without a row in {name}: {_some(lacking)}"
        for pair, count in self.shared.items():
            first, second = pair.split(" and ")
            yield f"rows of {second} that are in {first} too: {count:,}"
        if self.contradictions:
            yield f"inputs of train that have several labels: {self.contradictions:,}"
        yield from told(self.vocabularies)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataAccount:
        """Inverse of `to_json`."""
        splits = {name: SplitAccount(**split) for name, split in data["splits"].items()}
        sizes = {
            size: {source: Written(**written) for source, written in sources.items()}
            for size, sources in data.get("vocabularies", {}).items()
        }
        return cls(**{**data, "splits": splits, "vocabularies": sizes})


@dataclass(frozen=True)
class TextAboutImages:
    """A text and the images that it is about, as their files hold them or as pictures."""

    images: tuple[Any, ...]
    text: str


@dataclass(frozen=True)
class SplitSource:
    """What is known of one split's rows: targets used (see `Values`), how to hash inputs `(n,)`.

    sample: a row's input as it was found: a text, a pair `(first, second)`, a list of words, the
    bytes of a picture's file, a picture (`PIL.Image.Image`) where there is no file, or a text about
    such ones.
    """

    labels: Values
    hashes: Callable[[], Hashes]
    sample: Callable[[int], Any]
    found: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0


@dataclass(frozen=True)
class DataSource:
    """Where the rows of a task came from. Hashing them reads every input once, when asked for."""

    label_names: tuple[str, ...] = ()
    splits: Mapping[str, SplitSource] = field(default_factory=dict)
    unused: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def contents(self) -> Contents:
        """Hashes of all rows."""
        return Contents.of(
            {name: split.hashes() for name, split in self.splits.items()},
            hashes({name: s.labels for name, s in self.splits.items()}, self.label_names),
        )

    @cached_property
    def account(self) -> DataAccount:
        """The account of the data."""
        return DataAccount(
            {name: self._split(split) for name, split in self.splits.items()},
            dict(self.unused),
            self.contents.shared(),
            self.contents.contradictions("train"),
        )

    def _split(self, split: SplitSource) -> SplitAccount:
        classes = counts(split.labels, self.label_names)
        rows = None if sum(classes.values()) == len(split.labels) else len(split.labels)
        left_out = {reason: count for reason, count in split.left_out.items() if count}
        return SplitAccount(split.found, left_out, classes, split.cut, rows)


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(map(repr, names[:SHOWN])) + (f" and {more:,} more" if more > 0 else "")
