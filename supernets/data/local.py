"""Data sets on this machine: a folder or a file, opened as one table per split."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import datasets
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, load_from_disk

from hardware.files import writable_folder
from supernets.data.joined import count, image_columns, images_by_name, join_images
from supernets.data.layout import (
    METADATA,
    NO_SPLIT,
    Files,
    Unused,
    image_splits,
    list_files,
    stem,
    table_splits,
    table_suffix,
    told_splits,
)
from supernets.data.read_table import Columns, join, read_columns
from supernets.settings import DataSettings

IMAGE, LABEL = "image", "label"
SAVED = ("dataset_dict.json", "state.json")  # written by `save_to_disk` of the library datasets


@dataclass(frozen=True)
class Opened:
    """Tables by split, and what lies beside them.

    pictures: by split, images that rows name by their places, see `joined`.
    """

    splits: Mapping[str, Dataset]
    unused: Unused = field(default_factory=dict)
    pictures: Mapping[str, Dataset] = field(default_factory=dict)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Of reading a local file there is nothing to wait for; of other data sets there may be."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


@_without_progress_bars()
def open_local(path: Path, settings: DataSettings, kind: str) -> Opened | None:
    """Open a file or folder of texts (`kind` "text") or images ("image").

    None if nothing in it is a table or an image. Raises ValueError for one that cannot be read.
    """
    path = path.absolute()  # so that paths in tables stay right wherever they are read from
    if any((path / name).is_file() for name in SAVED):
        saved = load_from_disk(str(path))
        return Opened(dict(saved) if isinstance(saved, DatasetDict) else {"train": saved})
    files = Files(path.parent, tables=[path]) if path.is_file() else list_files(path)
    if path.is_file() and table_suffix(path) is None:
        raise ValueError(
            f"data.name: {path} is no table; it may be csv, tsv, json, jsonl (each also .gz, .bz2 "
            "or .xz), parquet, or a folder"
        )
    asked = [getattr(settings, f"{name}_split") for name in ("train", "validation", "test")]
    asked, train = [name for name in asked if name is not None], settings.train_split or "train"
    about = settings.text_column is not None or settings.join_column is not None
    about = about or _has_metadata(files)
    if kind == "image" and files.images and not about:
        files.leave_out("tables beside images", files.tables)
        return _open_images(files, asked, train)
    if not files.tables:
        return None
    if kind == "text":
        files.leave_out("images", files.images)
    parts = {"train": [path]} if path.is_file() else table_splits(files, asked, train)
    if settings.join_column is not None:
        return _joined(files, parts, settings, asked)
    splits = {name: read_tables(paths, path, settings, kind) for name, paths in parts.items()}
    if kind == "image":
        _count_unnamed(files, splits)
    return Opened(splits, files.unused)


def _joined(
    files: Files, parts: Mapping[str, list[Path]], settings: DataSettings, asked: list[str]
) -> Opened:
    """The splits, with images from tables of their own, or from files that are called as rows name
    them; a table or a folder of no split is for all of them."""
    key = settings.join_column
    assert key is not None

    def tables(paths: Iterable[Path]) -> dict[str, Dataset]:
        return {path.name: read_tables([path], files.root, settings, "image") for path in paths}

    common = tables(files.root / name for name in files.unused.pop(NO_SPLIT, []))
    given = {split: tables(paths) for split, paths in parts.items()}
    rows = [data for named in (common, *given.values()) for data in named.values()]
    if not any(map(image_columns, rows)):
        found = told_splits(files.root, dict.fromkeys(files.images, ""), asked)
        for split, paths in found.items():
            named = given.get(split, {}) if split else common  # of no split with rows: not used
            named[f"files of images {split}".strip()] = images_by_name(paths, key, rows)
    splits, pictures, idle = {}, {}, {}
    for split, own in given.items():
        splits[split], pictures[split], idle[split] = join_images(
            common | own, key, split, files.unused
        )
    _count_idle(files, key, common, idle)
    _count_unnamed(files, pictures)
    return Opened(splits, files.unused, pictures)


def _count_idle(
    files: Files, key: str, common: Mapping[str, Dataset], idle: Mapping[str, list[str]]
) -> None:
    """Count images that no row names, those for all splits once."""
    shared = {str(n) for data in common.values() if image_columns(data) for n in data[key][:]}
    for split, names in idle.items():
        own = [f"{key} {name}" for name in names if name not in shared]
        count(files.unused, f"images of the {split} split that no row names", own)
    nobodys = shared.intersection(*idle.values())
    count(files.unused, "images that no row names", [f"{key} {n}" for n in sorted(nobodys)])


def _has_metadata(files: Files) -> bool:
    return any(stem(path).lower() == METADATA for path in files.tables)


def read_tables(paths: list[Path], root: Path, settings: DataSettings, kind: str) -> Dataset:
    """The rows of some tables. Raises ValueError for one that cannot be read."""
    packed = [path for path in paths if table_suffix(path) == ".parquet"]
    if packed and len(packed) < len(paths):
        raise ValueError(
            f"data.name: {packed[0]} and {min(set(paths) - set(packed))} are of one split and of "
            "two formats; name one of them in data.name"
        )
    if packed:
        return _parquet(packed)
    tables = {path: read_columns(path, settings.encoding) for path in paths}
    if kind == "text":
        return join(tables)
    named = {name for path, columns in tables.items() for name in _file_columns(columns, path)}
    for path, columns in tables.items():
        for name in named & set(columns):
            columns[name] = [v and str(_place(str(v), path)) for v in columns[name]]
    data = join(tables)
    for name in named:
        data = data.cast_column(name, Image(decode=False))
    return data


def _file_columns(columns: Columns, table: Path) -> list[str]:
    """The columns that name files, as far as their first rows tell."""
    found = []
    for name, values in columns.items():
        some = [value for value in values if value is not None][:20]
        places = [_place(value, table) for value in some if isinstance(value, str)]
        if places and len(places) == len(some) and any(place.is_file() for place in places):
            found.append(name)
    return found


def _place(name: str, table: Path) -> Path:
    return table.parent / name.replace("\\", "/")


def _count_unnamed(files: Files, splits: Mapping[str, Dataset]) -> None:
    named = {
        entry["path"]
        for data in splits.values()
        for column, feature in data.features.items()
        if isinstance(feature, Image)
        for entry in data.cast_column(column, Image(decode=False))[column][:]
        if files.images and entry is not None
    }
    unnamed = [path for path in files.images if str(path) not in named]
    files.leave_out("images that no table names", unnamed)


def _parquet(paths: list[Path]) -> Dataset:
    try:
        data = Dataset.from_parquet([glob.escape(str(p)) for p in paths], cache_dir=table_cache())
        assert isinstance(data, Dataset)
        data.data.table.validate(full=True)  # texts that are none would be met on the way
    except Exception as error:  # datasets raises a dozen unrelated classes
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"data.name: {', '.join(map(str, paths[:3]))} cannot be read as parquet ({reason[0]})"
        ) from error
    return data


def _open_images(files: Files, asked: list[str], train: str) -> Opened:
    splits = {}
    for split, classes in image_splits(files, asked, train).items():
        names = sorted({name for name in classes.values() if name is not None})
        columns = {IMAGE: [str(path) for path in classes], LABEL: list(classes.values())}
        features = Features({IMAGE: Image(decode=False), LABEL: ClassLabel(names=names)})
        if not names:
            del columns[LABEL], features[LABEL]
        splits[split] = Dataset.from_dict(columns, features=features)
    return Opened(splits, files.unused)


def table_cache() -> str:
    """Where parquet is unpacked: the library's own place, or one for now if that is read-only."""
    return str(writable_folder(Path(datasets.config.HF_DATASETS_CACHE)))
