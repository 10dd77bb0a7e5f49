"""From the values of a label column to class names and numbers, the same in every split."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Value
from numpy.typing import NDArray

Rows = NDArray[np.int64]

NO_LABEL = -1
"""Number of a row without a label; a class called -1 has another."""

UNLABELLED = "-1"
"""What a whole split has for labels that are kept secret, as GLUE's test sets."""

MOST_FRACTIONS = 20
"""Different numbers with fractions, such as half stars, that still pass for classes."""


@dataclass(frozen=True)
class Labels:
    """Class names, and each split's labels `(n,)` as their positions, `NO_LABEL` for none."""

    names: tuple[str, ...]
    numbers: Mapping[str, Rows]
    notes: tuple[str, ...]


def number_labels(splits: Mapping[str, Dataset], column: str) -> Labels:
    """Number the labels of all splits by the classes of `train`.

    Raises ValueError for a column that holds no classes, and for a class that train lacks.
    """
    values = {name: _names(data, column) for name, data in splits.items()}
    if _all_whole(values["train"]):
        values = {name: [_whole(v) for v in column] for name, column in values.items()}
    names = _classes(splits["train"], column, values["train"])
    notes: list[str] = []
    numbers = {name: _numbered(given, names, name, notes) for name, given in values.items()}
    return Labels(names, numbers, (*notes, *_alike(names)))


def _names(data: Dataset, column: str) -> list[str | None]:
    """A label's name in every row, None where there is none."""
    if column not in data.column_names:
        return [None] * len(data)
    feature, given = data.features[column], data[column][:]
    if isinstance(feature, ClassLabel):
        known = dict(enumerate(map(label_name, feature.names)))
        odd = next((v for v in given if v is not None and v != NO_LABEL and v not in known), None)
        if odd is not None:
            raise ValueError(
                f"data.label_column: {column!r} holds {odd}, but names only {len(known)} classes"
            )
        return [known.get(value) for value in given]
    if not isinstance(feature, Value) or "binary" in feature.dtype:
        raise ValueError(
            f"data.label_column: {column!r} holds {_kind(feature)}, but a label must be one text "
            "or one number a row; name another column, or write one class a row"
        )
    names = [label_name(value) for value in given]
    return [None] * len(names) if set(names) <= {None, UNLABELLED} else names


def _kind(feature: object) -> str:
    if isinstance(feature, Mapping):
        return f"records of {', '.join(map(str, feature))}"
    return "bytes" if isinstance(feature, Value) else "lists (several labels a row)"


def label_name(value: Any) -> str | None:
    """Whole floats are integers, blanks around a name are none of it, an empty name is none."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return unicodedata.normalize("NFC", str(value)).strip() or None


def class_names(feature: ClassLabel) -> tuple[str, ...]:
    """The names of classes that a column knows, spelled as those of a column of texts are."""
    return tuple(dict.fromkeys(filter(None, map(label_name, feature.names))))


def _whole(name: str | None) -> str | None:
    """`1.0`, which a missing cell makes of 1, is 1."""
    return name and re.sub(r"^(-?(?:0|[1-9]\d*))\.0+$", r"\1", name)


def _all_whole(names: Iterable[str | None]) -> bool:
    return all(name is None or re.fullmatch(r"-?(0|[1-9]\d*)(\.0+)?", name) for name in names)


def _classes(train: Dataset, column: str, given: list[str | None]) -> tuple[str, ...]:
    feature, rows = train.features[column], [name for name in given if name is not None]
    if isinstance(feature, ClassLabel):
        return class_names(feature)
    names = set(rows)
    if not names:
        raise ValueError(f"data.label_column: {column!r} has no label in train")
    fractions = sum(_is_fraction(name) for name in names)
    if len(names) > most_classes(len(rows)) or fractions > MOST_FRACTIONS:
        kind = "numbers with fractions" if fractions else "values"
        raise ValueError(
            f"data.label_column: {column!r} has {len(names)} different {kind} in {len(rows)} "
            "rows, which are no classes; name another column"
        )
    return tuple(sorted(names, key=int if _all_whole(names) else None))


def most_classes(rows: int) -> int:
    """How many classes there can be: on average each has two rows."""
    return rows // 2


def _is_fraction(name: str) -> bool:
    try:
        return not float(name).is_integer()
    except (ValueError, OverflowError):
        return False


def _numbered(
    given: list[str | None], names: tuple[str, ...], split: str, notes: list[str]
) -> Rows:
    known = {name: number for number, name in enumerate(names)}
    alike = Counter(_folded(name) for name in names)
    folded = {_folded(n): number for n, number in known.items() if alike[_folded(n)] == 1}
    counts = Counter(name for name in given if name is not None and name not in known)
    unknown = sorted(name for name in counts if _folded(name) not in folded)
    if unknown:
        raise ValueError(
            f"data: labels {unknown[:5]} of the {split} split do not occur in train; train has "
            f"{list(names[:20])}; rename them, or leave those rows out"
        )
    for name, rows in counts.items():
        meant = names[folded[_folded(name)]]
        notes.append(
            f"data: label {name!r} of the {split} split ({rows} rows) is taken as {meant!r}"
        )
        known[name] = folded[_folded(name)]
    numbers = [NO_LABEL if name is None else known[name] for name in given]
    return np.array(numbers, dtype=np.int64)


def _folded(name: str) -> str:
    """A name but for capitals, invisible signs, and blanks, hyphens or underscores in between."""
    seen = "".join(sign for sign in name if unicodedata.category(sign) != "Cf")
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFC", seen).casefold().strip()))


def _alike(names: Collection[str]) -> list[str]:
    """What to say of classes that may have been meant as one."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_folded(name), []).append(name)
    return [
        f"data: labels {', '.join(map(repr, group))} differ in capitals, blanks or invisible signs "
        f"alone and are {len(group)} classes"
        for group in groups.values()
        if len(group) > 1
    ]
