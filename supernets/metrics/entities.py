"""Metrics of tagged words: a sample is a text, outputs `(words, tags)`, targets `(words,)`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from supernets.metrics.metric import Array, Quality

Entity = tuple[int, int, str]
MARKS = tuple("BIESLUO")
"""Begin, inside, end, single, and last and unit in their place; outside."""


def word_accuracy(outputs: list[Array], tags: list[Array], names: Sequence[str]) -> float:
    """Part of the words whose largest logit is their tag's."""
    right = [given.argmax(-1) == wanted for given, wanted in zip(outputs, tags, strict=True)]
    return float(np.concatenate(right).mean())


def entity_f1(outputs: list[Array], tags: list[Array], names: Sequence[str]) -> float:
    """F1 of entities, which count where first word, last word and type are right.

    As conlleval and seqeval count them; 0 where there are none on either side.
    """
    right = given = wanted = 0
    for logits, numbers in zip(outputs, tags, strict=True):
        ours = set(entities([names[n] for n in logits.argmax(-1)]))
        theirs = set(entities([names[n] for n in numbers]))
        right, given, wanted = right + len(ours & theirs), given + len(ours), wanted + len(theirs)
    return 2 * right / (given + wanted) if given + wanted else 0.0


def entities(tags: Sequence[str]) -> Iterator[Entity]:
    """First word, word behind the last, and type of each entity; tags of IOB, IOB2 or BIOES."""
    start, kind, before = 0, "", "O"
    for place, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        if mark not in MARKS:
            mark, name = "I", tag  # tags without marks: neighbours of one type are one entity
        inside = tag != "O"
        goes_on = inside and before not in ("", "O", "E", "S", "L", "U") and name == kind
        if before not in ("", "O") and not (goes_on and mark not in ("B", "S", "U")):
            yield start, place, kind
            before = "O"
        if inside and before == "O":
            start, kind = place, name
        before = mark if inside else "O"


ENTITY_F1 = Quality("entity_f1", "entity F1", entity_f1)
WORD_ACCURACY = Quality("word_accuracy", "accuracy of words", word_accuracy)
