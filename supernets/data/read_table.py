"""Tables in text files: CSV, TSV, JSON and JSON lines, exactly as their author wrote them.

A missing value is an empty cell of CSV or a null of JSON; `NA`, `None` and the like are texts.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset

from supernets.data.layout import table_suffix

Columns = dict[str, list[Any]]

OPENERS = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
MARKS = (  # the longer before the shorter that it begins with
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
DELIMITERS = ",;\t|"
TAGGED = (".conll", ".bio", ".iob", ".iob2")
"""Files of a word and its tag a line, an empty line between texts."""
LONGEST_CELL = 2**31 - 1


def read_columns(path: Path, encoding: str | None) -> Columns:
    """The columns of a file, missing values as None. Raises ValueError naming file and place."""
    text, suffix = read_text(path, encoding), table_suffix(path)
    if suffix in (".csv", ".tsv"):
        return _csv(text, path, "\t" if suffix == ".tsv" else None)
    if suffix in TAGGED:
        return _tagged(text, path)
    return _json(text, path, lines=suffix != ".json")


def join(tables: Mapping[Path, Columns]) -> Dataset:
    """The rows of several files. Raises ValueError if their columns differ."""
    first = next(iter(tables))
    names = list(tables[first])
    for path, columns in tables.items():
        if set(columns) != set(names):
            raise ValueError(
                f"data.name: {first} has the columns {', '.join(names)}, but {path} "
                f"{', '.join(columns)}; name one of them in data.name, or give both the same"
            )
    joined = {name: [v for columns in tables.values() for v in columns[name]] for name in names}
    return Dataset(pa.table({name: _array(values, name, first) for name, values in joined.items()}))


def _array(values: Sequence[Any], name: str, path: Path) -> pa.Array:
    """Values of one type in Arrow's type for it, of several types as text."""
    try:
        try:
            return pa.array(values, from_pandas=True)  # so that NaN is missing
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            missing = [value is None or value != value for value in values]
            texts = [v if isinstance(v, str) else json.dumps(v) for v in values]
            return pa.array([None if gone else t for gone, t in zip(missing, texts, strict=True)])
    except UnicodeEncodeError as error:
        raise ValueError(
            f"data: {path}: column {name!r} holds half a character ({error.reason}); repair the "
            "text"
        ) from error


def read_text(path: Path, encoding: str | None) -> str:
    """A file's text: UTF-8, what its first bytes tell, or `encoding`.

    Raises ValueError naming the first byte that is no text.
    """
    content = path.read_bytes()
    opener = OPENERS.get(path.suffix.lower())
    try:
        content = content if opener is None else opener(content)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"data: {path} cannot be unpacked ({error}); pack it again") from error
    marked = next((name for mark, name in MARKS if content.startswith(mark)), None)
    name = marked or encoding or "utf-8"
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        raise _unknown_encoding(path, name, error.start, content[error.start]) from error
    if (place := text.find("\0")) >= 0:
        raise _unknown_encoding(path, name, place, 0)
    return text


def _unknown_encoding(path: Path, name: str, place: int, byte: int) -> ValueError:
    return ValueError(
        f"data: {path} is not written in {name} (byte {place:,} is 0x{byte:02x}); say in what it "
        "is, for example data.encoding: latin-1 (also cp1252, shift_jis, gb18030, utf-16), or "
        "save it as UTF-8"
    )


def _csv(text: str, path: Path, delimiter: str | None) -> Columns:
    csv.field_size_limit(LONGEST_CELL)
    delimiter = delimiter or _delimiter(text)
    try:
        rows = _rows(text, delimiter, csv.QUOTE_MINIMAL)
    except csv.Error as error:
        if delimiter != "\t":
            raise ValueError(
                f"data: {path}: a quote is not closed, or text follows it ({error}); double "
                'quotes inside of quotes: "say ""so"""'
            ) from error
        rows = _rows(text, delimiter, csv.QUOTE_NONE)  # the quotes of tables by tabs may be text
    if not rows:
        raise ValueError(f"data: {path} is empty; its first line must name the columns")
    (_, header), *body = rows
    names = [name.strip() for name in header]
    while names and not names[-1]:
        names.pop()
    if len(set(names)) < len(names):
        raise ValueError(f"data: {path}: two columns have one name: {', '.join(names)}")
    for line, cells in body:
        while len(cells) > len(names) and not cells[-1].strip():
            cells.pop()  # a delimiter at the end of a line
        if len(cells) != len(names):
            raise ValueError(
                f"data: {path}, line {line}: {len(cells)} cells, but the first line names "
                f"{len(names)} columns ({', '.join(names)}); quote cells that hold {delimiter!r}"
            )
    return {name: [cells[i] or None for _, cells in body] for i, name in enumerate(names)}


def _rows(text: str, delimiter: str, quoting: Any) -> list[tuple[int, list[str]]]:
    """Cells of each line that has any, with the number of the line that it ends on."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    return [(reader.line_num, cells) for cells in reader if cells]


def _delimiter(text: str) -> str:
    """What parts the first line into most cells."""
    line = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    return max(DELIMITERS, key=lambda d: len(next(csv.reader([line], delimiter=d), [])))


def _tagged(text: str, path: Path) -> Columns:
    """Lists of words and of tags: the first and the last of a line's columns (CoNLL 2003)."""
    columns: Columns = {"tokens": [], "tags": []}
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        cells = line.split("\t") if "\t" in line else line.split()
        if cells and cells[0] != "-DOCSTART-":
            if len(cells) < 2:
                raise ValueError(
                    f"data: {path}, line {number}: {line!r} is no word with a tag; write both, or "
                    "leave the line empty to begin another text"
                )
            words.append(cells[0])
            tags.append(cells[-1].strip())
        elif words:
            columns["tokens"].append(words)
            columns["tags"].append(tags)
            words, tags = [], []
    return columns


def _json(text: str, path: Path, lines: bool) -> Columns:
    """Records as a list or one a line, or a mapping of columns."""
    try:
        rows = None if lines else _whole(text)
        if rows is None:
            rows = [_parse(line, n) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"data: {path} is no JSON ({error}); repair it") from error
    if isinstance(rows, dict):
        columns = {str(n): list(v.values() if isinstance(v, dict) else v) for n, v in rows.items()}
        if len({len(values) for values in columns.values()}) == 1:
            return columns
    elif rows and all(isinstance(row, dict) for row in rows):
        names = dict.fromkeys(str(name) for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}
    raise ValueError(
        f"data: {path} is no table: it must be a list of records such as "
        '[{"text": "good", "label": "yes"}, ...], or one record a line'
    )


def _whole(text: str) -> Any:
    """A file that is one JSON value: records, or columns; None for one that has one a line."""
    try:
        value = json.loads(text)
    except ValueError:
        if text.lstrip().startswith("{"):
            return None
        raise
    if isinstance(value, dict):
        lists = [entry for entry in value.values() if isinstance(entry, list)]
        if len(lists) == 1 and all(isinstance(row, dict) for row in lists[0]):
            return lists[0]  # {"version": 1, "data": [...]}
        listed = all(isinstance(entry, list | dict) for entry in value.values())
        return value if value and listed else [value]
    return value if isinstance(value, list) else [value]


def _parse(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def texts(values: Iterable[Any], where: str) -> list[str | None]:
    """Cells of a text column; None where there is none. Raises ValueError for what is no text."""
    found = [None if value is None or value != value else value for value in values]
    odd = next((v for v in found if not isinstance(v, str | int | float | None)), None)
    if odd is not None:
        raise ValueError(f"{where} holds {type(odd).__name__} values, not texts; name another")
    return [value if value is None else str(value) for value in found]
