"""What lies in a local data set, and which files make which split, told from names alone."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("eval", "evaluation"), "eval"),  # one of the two before, see `_with_eval`
}
COMPRESSIONS = (".gz", ".bz2", ".xz")
TABLES = (
    *(".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"),
    *(".conll", ".bio", ".iob", ".iob2"),
)
IMAGES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif", ".ico", ".pcx"),
)
HUB_FILES = ("dataset_info.json", "dataset_infos.json")  # what the hub keeps beside a data set
NO_SPLIT = "tables that belong to no split"
METADATA = "metadata"  # stem of the table that names a folder's images, as on the hub
Unused = dict[str, list[str]]
"""Why something is not used -> the names of what is not."""


@dataclass(frozen=True)
class Files:
    """A folder's files by kind, sorted by path: the order on the disk does not matter."""

    root: Path
    tables: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    unused: Unused = field(default_factory=dict)

    def leave_out(self, reason: str, paths: Iterable[Path]) -> None:
        """Count files as not used."""
        if names := [str(path.relative_to(self.root)) for path in paths]:
            self.unused.setdefault(reason, []).extend(names)


def list_files(root: Path) -> Files:
    """Everything in a folder; links to other folders are counted, not followed."""
    files = Files(root)
    for parent, folders, names in os.walk(root):
        here = Path(parent)
        folders.sort()
        links = [here / name for name in folders if (here / name).is_symlink()]
        files.leave_out("links to folders, which are not followed", links)
        if not folders and not names and here != root:
            files.leave_out("empty folders", [here])
        for path in sorted(here / name for name in names):
            _sort_in(path, files)
    files.tables.sort()
    files.images.sort()
    return files


def _sort_in(path: Path, files: Files) -> None:
    hidden = any(part.startswith((".", "__")) for part in path.relative_to(files.root).parts)
    if hidden:
        files.leave_out("hidden files", [path])
    elif table_suffix(path) and path.name not in HUB_FILES:
        files.tables.append(path)
    elif path.suffix.lower() in IMAGES:
        files.images.append(path)
    else:
        files.leave_out("files not understood", [path])


def table_suffix(path: Path) -> str | None:
    """The format of a table, without its compression; None for any other file."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in TABLES else None


def stem(path: Path) -> str:
    """A table's name without format and compression."""
    name, ending = path.name, table_suffix(path)
    return name[: name.lower().rindex(ending)] if ending else path.stem


def split_of(name: str, asked: Collection[str]) -> str | None:
    """The split that a folder's or a table's name tells; names asked for come first."""
    for split in asked:
        if name.lower() == split.lower():
            return split
    words = re.split(r"[\W\d_]+", name.lower())
    told = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return told.pop() if len(told) == 1 else None


def table_splits(files: Files, asked: Collection[str], train: str) -> dict[str, list[Path]]:
    """The tables of each split; those of no split are train's if nothing else is.

    Raises ValueError for a table that lies there in two formats.
    """
    splits = told_splits(files.root, {path: stem(path) for path in files.tables}, asked)
    plain = splits.pop("", [])
    described = [path for path in plain if table_suffix(path) == ".json"]
    if splits or len(described) < len(plain):  # a JSON file beside tables is about them
        files.leave_out("files not understood", described)
        plain = [path for path in plain if path not in described]
    if plain and train not in splits:
        splits["train"] = plain
    else:
        files.leave_out(NO_SPLIT, plain)
    for paths in splits.values():
        _refuse_twins(paths)
    return splits


def told_splits(
    root: Path, names: Mapping[Path, str], asked: Collection[str]
) -> dict[str, list[Path]]:
    """Split -> the files whose own name, or that of a folder above, tells it; "" for the others."""
    told: dict[str, list[Path]] = defaultdict(list)
    for path, own in names.items():
        above = reversed(path.relative_to(root).parts[:-1])
        told[next((s for name in (own, *above) if (s := split_of(name, asked))), "")].append(path)
    return _with_eval(told)


def _with_eval(told: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    """`eval` is the test split, but beside a `test` the validation split."""
    splits = {name: list(paths) for name, paths in told.items() if name != "eval"}
    if "eval" in told:
        name = "validation" if "test" in splits else "test"
        splits[name] = sorted([*splits.get(name, []), *told["eval"]])
    return splits


def _refuse_twins(paths: Sequence[Path]) -> None:
    seen: dict[tuple[Path, str], Path] = {}
    for path in paths:
        other = seen.setdefault((path.parent, stem(path)), path)
        if other is not path:
            raise ValueError(
                f"data.name: {other} and {path.name} look like one table in two formats; move one "
                "away, or name one of them in data.name"
            )


def image_splits(
    files: Files, asked: Collection[str], train: str
) -> dict[str, dict[Path, str | None]]:
    """Split -> image -> its class: the folder right below the split's, None where there is none.

    A folder named after a split is one only if it holds folders of classes, or lies beside such a
    one: a class may be called train. Without splits all images are of train.
    """
    root = _unwrapped(files.root, files.images)
    tops = _by_folder(files.images, root)
    told = {top: split for top in tops if (split := split_of(top, asked))}
    classes = {top: set(_by_folder(tops[top], root / top)) - {""} for top in told}
    splits = {told[top] for top in told if classes[top]}
    rest = {top: paths for top, paths in tops.items() if top not in told}
    beside = set().union(*classes.values()) <= set(rest)  # validation among the classes' folders
    if not splits or not (train in splits or beside):
        return {"train": _classes(files.images, root)}
    images: dict[str, list[Path]] = defaultdict(list)
    for top, split in told.items():
        images[split] += tops[top]
    found = {split: _in_splits(paths, root) for split, paths in _with_eval(images).items()}
    outside = [path for paths in rest.values() for path in paths]
    if train not in splits:
        return {**found, "train": _classes(outside, root)}
    files.leave_out("images outside of the splits' folders", outside)
    return found


def _by_folder(images: Iterable[Path], root: Path) -> dict[str, list[Path]]:
    """Images by the folder right below the root that they lie in; "" for the root itself."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        parts = path.relative_to(root).parts
        folders[parts[0] if len(parts) > 1 else ""].append(path)
    return folders


def _unwrapped(root: Path, images: Sequence[Path]) -> Path:
    """Where splits or classes begin: below folders that hold one folder and no image of their own.

    Unpacking an archive often leaves such ones.
    """
    folders = _by_folder(images, root)
    lone = next(iter(folders), "")
    if len(folders) > 1 or not lone or split_of(lone, ()):
        return root
    below = _by_folder(images, root / lone)
    return root if "" in below else _unwrapped(root / lone, images)


def _in_splits(images: Sequence[Path], root: Path) -> dict[Path, str | None]:
    """Images and classes of one split, whose folders lie below the root."""
    found: dict[Path, str | None] = {}
    for top, paths in _by_folder(images, root).items():
        folder = root / top
        below = _by_folder(paths, folder)
        lone = next(iter(below))
        if len(below) == 1 and lone and "" not in _by_folder(paths, folder / lone):
            folder = folder / lone  # train/train/cat, as some archives have it
        found |= _classes(paths, folder)
    return found


def _classes(images: Iterable[Path], root: Path) -> dict[Path, str | None]:
    return {
        path: name or None for name, paths in _by_folder(images, root).items() for path in paths
    }
