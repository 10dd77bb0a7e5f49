"""Validation texts and others in the vocabularies of a space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

from supernets.data.builtin import pydoc_text
from supernets.data.data import TaskData
from supernets.data.text import TextPreprocessor, TextSplit
from supernets.data.vocabulary.written import Vocabularies, Written
from supernets.space.dimensions import size_of
from supernets.space.space import VOCABULARY

KNOWN, OTHERS = "validation", "texts of another source"
MOST_OTHERS = 500


def vocabularies(data: TaskData, wanted: Sequence[float | str], own: str) -> Vocabularies:
    """The vocabularies of sizes or fractions `wanted`, and the whole one last; none of images.

    own: name of the data set. Texts of another source are sentences of Python's documentation.

    Raises ValueError for a tokenizer that cannot be cut, and for fewer pieces than texts need.
    """
    split, preprocessor = data.validation, data.preprocessor
    if not isinstance(split, TextSplit) or not isinstance(preprocessor, TextPreprocessor):
        return {}
    assert preprocessor.uses is not None
    rows, most = len(preprocessor.uses), preprocessor.max_length
    found = {}
    for size in sorted({rows, *(size_of(each, rows, 1) for each in wanted)}):
        seen, known = preprocessor.seen_by({VOCABULARY: size}), split.seen_by({VOCABULARY: size})
        others = seen.encode(other_texts(own))
        found[str(size)] = {  # what is known is in the ids of the whole vocabulary
            KNOWN: Written.of(known.texts, preprocessor.tokenizer.unk_token_id, most),
            OTHERS: Written.of(others, seen.tokenizer.unk_token_id, most),
        }
    return found


@cache
def other_texts(own: str) -> tuple[str, ...]:
    """English sentences that every Python carries and that are not those of the data set."""
    return tuple(islice(_modules() if own == "pydoc" else _packages(), MOST_OTHERS))


def _packages() -> Iterator[str]:
    _, splits = pydoc_text.collect(pydoc_text.standard_library())
    return (sentence.text for sentence in splits["test"])


def _modules() -> Iterator[str]:
    for file in sorted(pydoc_text.standard_library().glob("*.py")):
        for docstring in pydoc_text.docstrings(file.read_text(encoding="utf-8")):
            yield from pydoc_text.sentences(docstring)
