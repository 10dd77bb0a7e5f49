"""The built-in text task: which package of the standard library does a docstring sentence document?

Real English that every Python installation carries. The sentences depend on the Python version;
which split a sentence is in depends on its words alone, so nothing leaks between versions.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = (
    "asyncio",
    "concurrent",
    "ctypes",
    "email",
    "http",
    "importlib",
    "json",
    "logging",
    "multiprocessing",
    "unittest",
    "urllib",
    "wsgiref",
    "xml",
)
MIN_WORDS, MAX_WORDS = 5, 60
SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n\s*\n")
DOCTEST = re.compile(r"^\s*(>>>|\.\.\.).*$", re.MULTILINE)
N_PARTS, VALIDATION_PART, TEST_PART = 10, 8, 9


class Sentence(NamedTuple):
    """One sentence and the position of its package in the label list."""

    text: str
    label: int


def standard_library() -> Path:
    """Folder of the running Python's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def docstrings(source: str) -> Iterator[str]:
    """Docstrings of a module, its classes and functions."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented):
            text = ast.get_docstring(node)
            if text:
                yield text


def sentences(docstring: str) -> Iterator[str]:
    """Sentences long enough to say something, doctest lines left out."""
    for piece in SENTENCE_END.split(DOCTEST.sub("", docstring)):
        words = piece.split()
        letters = sum(character.isalpha() or character.isspace() for character in piece)
        if MIN_WORDS <= len(words) <= MAX_WORDS and letters >= 0.8 * len(piece):
            yield " ".join(words)


def part(text: str) -> int:
    """Tenth of the data that a sentence belongs to, from a hash of its words."""
    words = " ".join(re.findall(r"\w+", text.lower()))
    return hashlib.sha256(words.encode()).digest()[0] % N_PARTS


def collect(library: Path) -> tuple[tuple[str, ...], dict[str, list[Sentence]]]:
    """Package names and the sentences of `train`, `validation` and `test`.

    A sentence counts once, and not at all if two packages have it. Packages that an installation
    leaves out are no labels.
    """
    owners: dict[str, set[str]] = {}
    for package in PACKAGES:
        for file in sorted((library / package).rglob("*.py")):
            if not {"test", "tests"} & set(file.parts):
                for docstring in docstrings(file.read_text(encoding="utf-8")):
                    for sentence in sentences(docstring):
                        owners.setdefault(sentence, set()).add(package)
    unique = {text: names.pop() for text, names in owners.items() if len(names) == 1}
    labels = tuple(package for package in PACKAGES if package in set(unique.values()))
    splits: dict[str, list[Sentence]] = {"train": [], "validation": [], "test": []}
    for text, package in sorted(unique.items()):
        name = {VALIDATION_PART: "validation", TEST_PART: "test"}.get(part(text), "train")
        splits[name].append(Sentence(text, labels.index(package)))
    return labels, splits
