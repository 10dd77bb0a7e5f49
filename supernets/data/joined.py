"""Rows of one table with images of another, found by a column that both have.

Several rows may name one image, as questions do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, Value, concatenate_datasets

from supernets.data.layout import IMAGES, Unused


def image_columns(data: Dataset) -> list[str]:
    """Columns of images, or of the encoded bytes of ones."""
    return [name for name, feature in data.features.items() if _holds_images(feature)]


def _holds_images(feature: object) -> bool:
    if isinstance(feature, Mapping):
        return "bytes" in feature
    return isinstance(feature, Image) or (isinstance(feature, Value) and "binary" in feature.dtype)


def images_by_name(paths: Sequence[Path], key: str, rows: Iterable[Dataset]) -> Dataset:
    """Image files as a table: rows name them as they are called, with their ending or without."""
    some = [str(name) for data in rows if key in data.column_names for name in data[key][:20]]
    whole = any(name.lower().endswith(IMAGES) for name in some)
    columns = {key: [p.name if whole else p.stem for p in paths], "image": list(map(str, paths))}
    features = Features({key: Value("string"), "image": Image(decode=False)})
    return Dataset.from_dict(columns, features=features)


def join_images(
    tables: Mapping[str, Dataset], key: str, split: str, unused: Unused
) -> tuple[Dataset, Dataset, list[str]]:
    """The rows of a split that have an image, the images, which are not copied, and idle ones.

    In the columns of images rows have places in the second table. Rows without an image, and those
    of either table that name none count as unused; images that no row names are the third.

    tables: by file name, of rows and of images. Raises ValueError for a table without the column,
    two images of one name, or a split in which no row has an image.
    """
    for name, data in tables.items():
        if key not in data.column_names:
            columns = ", ".join(data.column_names)
            raise ValueError(f"data.join_column: {name} has no column {key!r}; there are {columns}")
    rows = _named(_one_kind(tables, False, key, split), key, f"rows of the {split} split", unused)
    images = _named(
        _one_kind(tables, True, key, split), key, f"images of the {split} split", unused
    )
    place: dict[str, int] = {}
    for number, name in enumerate(map(str, images[key][:])):
        if place.setdefault(name, number) != number:
            raise ValueError(
                f"data.join_column: two images of the {split} split have {key} {name}; give each "
                "its own"
            )
    asked = list(map(str, rows[key][:]))
    there = np.array([name in place for name in asked], dtype=bool)
    absent = [f"{key} {name}" for name, found in zip(asked, there, strict=True) if not found]
    if not there.any():
        raise ValueError(
            f"data.join_column: no row of the {split} split has an image: {key} is "
            f"{', '.join(asked[:3])} ... in one table, {', '.join(list(place)[:3])} ... in the "
            "other"
        )
    others = sorted(place.keys() - set(asked))
    count(unused, f"rows of the {split} split whose image is absent", absent)
    found = [place[name] for name, one in zip(asked, there, strict=True) if one]
    pictures = images.select_columns(image_columns(images))
    kept = rows.select(np.flatnonzero(there).tolist())
    for name in pictures.column_names:
        kept = kept.add_column(name, found, feature=Value("int64"))
    return kept, pictures, others


def _one_kind(tables: Mapping[str, Dataset], images: bool, key: str, split: str) -> Dataset:
    """The tables of images, or of rows, as one. Raises ValueError if there is none."""
    found = [data for data in tables.values() if bool(image_columns(data)) == images]
    if not found:
        kind = "holds images" if images else "has rows without images"
        raise ValueError(
            f"data.join_column: no table of the {split} split {kind} (found: {', '.join(tables)}); "
            f"it takes one with {key} and images, or images called by it, and one with {key} and "
            "labels"
        )
    return concatenate_datasets(found) if len(found) > 1 else found[0]


def _named(data: Dataset, key: str, what: str, unused: Unused) -> Dataset:
    """The rows that have a value in the column: two without one are not of each other."""
    there = [value is not None for value in data[key][:]]
    absent = [f"row {number}" for number, one in enumerate(there, 1) if not one]
    count(unused, f"{what} without {key}", absent)
    return data if all(there) else data.select(np.flatnonzero(there).tolist())


def count(unused: Unused, why: str, names: Sequence[str]) -> None:
    """Count what is not used, if there is any."""
    if names:
        unused.setdefault(why, []).extend(names)
