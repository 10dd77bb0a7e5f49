"""Data sets as people have them, odd ones included: what to write, drawn by hypothesis."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image

Draw = Callable[..., Any]

CLASSES: tuple[tuple[Any, ...], ...] = (
    ("neg", "pos"),
    (0, 1),
    (-1, 0, 1),
    ("NA", "None", "null"),
    (1.0, 2.0),
    (True, False),
    ("0", "00", "1"),
    ("Cat", "cat ", "dog"),
    ("e\u0301", "日本", "a/b", "x y"),
    (0.5, 1.0, 1.5),
    ("only",),
)
ODD_LABELS = st.sampled_from(
    [None, "", " ", math.nan, "pos ", "POS", 1, "1.0", -1, 10**30, 2.5, [0, 1], {"a": 1}, "\ud800"]
)
ODD_TEXTS = st.one_of(
    st.sampled_from([None, "null", "NaN", 3.5, 7, "a\nb", 'say "so"', "a,b;c\td", "\u202e", "😀"]),
    st.sampled_from(["word " * 300, "x" * 3000, "\ud800", ["a"], {"a": "b"}, True, "\0"]),
    st.text(min_size=1, max_size=30),
)
COLUMNS = st.sampled_from(
    [("text", "label"), ("Text ", "LABEL"), ("sentence", "class"), ("a", "b"), ("label", "text")]
)
STRANGE_NAMES = ("notes.txt", ".hidden.csv", "README.md", "dataset_infos.json", "[1] {a} é 日.pdf")
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@dataclass
class Sample:
    """Files of a data set by name, settings beside `data.name`, and the rows they hold.

    rows: how many a reader finds, unless a file was damaged. complete: those with text and label.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = "data"
    rows: int = 0
    damaged: bool = False
    complete: int = 0

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the files; gives the section `data` of an experiment."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return {"name": str(folder / self.name), **self.settings}


def is_there(value: Any) -> bool:
    """Whether a cell is more than blanks."""
    return value is not None and value == value and bool(str(value).strip())


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str], kind: str, encoding: str) -> bytes:
    """Rows as the content of a file."""
    if kind == "parquet":
        return _parquet(rows, columns)
    if kind in ("csv", "tsv"):
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter="," if kind == "csv" else "\t")
        missing = [["" if v is None or v != v else v for v in row] for row in rows]
        writer.writerows([columns, *missing])
        return text.getvalue().encode(encoding, "replace")
    records = [dict(zip(columns, row, strict=True)) for row in rows]
    lines = "\n".join(map(json.dumps, records))
    return (json.dumps(records) if kind == "json" else lines).encode(encoding)


def _parquet(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> bytes:
    made = {}
    for name, values in zip(columns, zip(*rows, strict=True), strict=True):
        try:
            made[name] = pa.array(values, from_pandas=True)
        except (pa.ArrowException, UnicodeEncodeError, OverflowError):
            plain = [None if v is None or v != v else _plain(v) for v in values]
            made[name] = pa.array(plain, pa.string())
    file = io.BytesIO()
    pq.write_table(pa.table(made), file)
    return file.getvalue()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) and value.isascii() else ascii(value)


@st.composite
def texts(draw: Draw) -> Sample:
    """A data set of texts."""
    classes, columns = draw(st.sampled_from(CLASSES)), draw(COLUMNS)
    kind = draw(st.sampled_from(["csv", "csv", "tsv", "json", "jsonl", "parquet"]))
    packed = draw(st.sampled_from(["", "", "", ".gz", ".bz2", ".xz"])) if kind != "parquet" else ""
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp932"]))
    splits = draw(
        st.sampled_from(
            [("train",), ("train",), ("train", "test"), ("Train", "val", "eval"), ("part-1",)]
        )
    )
    flat = draw(st.booleans())
    sample = Sample()
    for split in splits:
        rows = [[f"some words {i}", classes[i % len(classes)]] for i in range(draw(SIZES))]
        for _ in range(draw(st.integers(0, 3))):
            row = draw(st.integers(0, len(rows) - 1))
            place = draw(st.integers(0, 1))
            rows[row][place] = draw(ODD_LABELS if place else ODD_TEXTS)
        complete = [is_there(label) and text is not None for text, label in rows]
        sample.rows, sample.complete = sample.rows + len(rows), sample.complete + sum(complete)
        name = f"data/{split}.{kind}{packed}" if flat else f"data/{split}/0.{kind}{packed}"
        sample.files[name] = PACKERS[packed](table(rows, columns, kind, encoding))
    named = draw(st.booleans()) or columns == ("a", "b")
    if named:
        sample.settings |= {"text_column": columns[0], "label_column": columns[1]}
    if draw(st.booleans()):
        sample.settings["encoding"] = encoding
    if len(sample.files) == 1 and draw(st.booleans()):
        sample.name = next(iter(sample.files))
    _litter(draw, sample)
    if draw(st.integers(0, 5)) == 0:
        _damage(draw, sample)
    return sample


SIZES = st.sampled_from([24, 30, 41, 3, 1])


def _litter(draw: Draw, sample: Sample) -> None:
    """Lay files beside that are no data."""
    for name in draw(st.lists(st.sampled_from(STRANGE_NAMES), max_size=2)):
        sample.files[f"data/{name}"] = draw(st.binary(max_size=20))


def _damage(draw: Draw, sample: Sample) -> None:
    """Cut a file off, or write other bytes into it."""
    name = draw(st.sampled_from(sorted(sample.files)))
    content = sample.files[name]
    place = draw(st.integers(0, max(0, len(content) - 1)))
    rest = draw(st.sampled_from([b"", content[place + 1 :]]))
    sample.files[name] = content[:place] + draw(st.binary(max_size=3)) + rest
    sample.damaged = True


DEEP = ("I", "F")
FORMATS = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpg": ("L", "RGB", "CMYK", "YCbCr"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "gif": ("1", "L", "P", "RGB", "RGBA"),
    "tiff": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
    "webp": ("RGB", "RGBA"),
    "ppm": ("1", "L", "RGB", "I;16"),
    "tga": ("1", "L", "LA", "P", "RGB", "RGBA"),
}
CLASS_NAMES = (
    ("cat", "dog"),
    ("train", "car"),
    ("é x", "[v2]"),
    ("0", "-1", "NA"),
    ("null", "test"),
    ("one",),
)


def picture(draw: Draw, kind: str) -> bytes:
    """The content of an image file."""
    mode = draw(st.sampled_from(FORMATS[kind]))
    width, height = draw(st.sampled_from([(16, 16), (40, 24), (1, 1), (1, 60), (7, 3)]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    image = image.convert("L").convert(mode) if mode in ("I;16", *DEEP) else _as(image, mode)
    options: dict[str, Any] = {}
    if kind in ("jpg", "png", "webp", "tiff") and draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(0, 9))
        options["exif"] = exif
    if kind == "png" and mode in ("P", "L", "RGB") and draw(st.booleans()):
        options["transparency"] = 0 if mode != "RGB" else (0, 0, 0)
    file = io.BytesIO()
    image.save(file, "JPEG" if kind == "jpg" else kind.upper(), **options)
    return file.getvalue()


def _as(image: Image.Image, mode: str) -> Image.Image:
    if mode == "PA":
        return image.convert("P").convert("PA")
    return image.convert("RGBA").convert("LA") if mode == "LA" else image.convert(mode)


@st.composite
def images(draw: Draw) -> Sample:
    """A folder of images, some of which cannot be read."""
    classes = draw(st.sampled_from(CLASS_NAMES))
    layout = draw(st.sampled_from(["", "", "train test", "Training val testing", "data-set/v1"]))
    splits = [""] if not layout else layout.split(" ")
    sample = Sample()
    endings = draw(st.lists(st.sampled_from(sorted(FORMATS)), min_size=1, max_size=3))
    stems = draw(st.sampled_from(["img", "train_img", "a.b", "é [1]", "test"]))
    broken = draw(st.integers(0, 3)) == 0
    for split in splits:
        for number in range(draw(st.sampled_from([12, 20, 7, 2]))):
            ending = endings[number % len(endings)]
            content = picture(draw, ending) if number < 4 else plain(number, ending)
            if broken and number == 1:
                content = draw(st.sampled_from([b"", b"text", content[: len(content) // 2]]))
            spelled = ending.upper() if number % 5 == 0 else ending
            place = "/".join(filter(None, ("data", split, classes[number % len(classes)])))
            sample.files[f"{place}/{stems}{number}.{spelled}"] = content
    sample.rows = len(sample.files)
    if draw(st.integers(0, 4)) == 0:
        sample.files["data/lone.png"] = plain(0, "png")
        sample.rows += 1
    _litter(draw, sample)
    sample.settings = {"skip_broken": draw(st.booleans()), "augment": False}
    return sample


def plain(seed: int, kind: str) -> bytes:
    """A small image of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (16, 18, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG" if kind == "jpg" else kind.upper())
    return file.getvalue()
