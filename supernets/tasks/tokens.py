"""A tag for every word of a text."""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.metrics.metric import Array
from supernets.tasks.classification import Classification
from supernets.tasks.task import UNASKED


class Tokens(Classification):
    """A tag per word: targets `(B, T)`, `UNASKED` but for the first piece of each word."""

    name = "tokens"
    title = "a tag for every word"
    metrics = ("entity_f1", "word_accuracy")
    reads = "tokens"
    architecture = "ForTokenClassification"
    pipeline = "token-classification"
    once_per_sample = False
    answer_code = """\
names = json.load(open("config.json"))["id2label"]
for number, word in enumerate(words):
    if number in text.word_ids:  # not where the text was cut
        print(word, names[str(logits[0, text.word_ids.index(number)].argmax())])
"""

    def rows(self, values: Tensor, targets: Tensor) -> Tensor:
        """Those of the first pieces, `(words, ...)`."""
        asked: Tensor = values[targets != UNASKED]
        return asked

    def matched(self, targets: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Words that both have: a text in smaller pieces may be cut after fewer of them."""
        if targets is others:
            return targets, others
        words = torch.minimum(_words(targets)[:, -1:], _words(others)[:, -1:])
        here = torch.where(_words(targets) <= words, targets, UNASKED)
        return here, torch.where(_words(others) <= words, others, UNASKED)

    def answers(self, outputs: Array, targets: Array) -> tuple[list[Array], list[Array]]:
        """Of every text what is said of its words; padding may be cut off the outputs."""
        asked = [row[: outputs.shape[1]] != UNASKED for row in targets]
        given = [row[mask] for row, mask in zip(outputs, asked, strict=True)]
        return given, [row[row != UNASKED] for row in targets]


def _words(targets: Tensor) -> Tensor:
    """How many words have begun at each token, `(B, T)`."""
    return (targets != UNASKED).cumsum(dim=1)
