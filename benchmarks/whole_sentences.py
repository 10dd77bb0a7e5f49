"""SST-2 with whole sentences held out for validation.

    python -m benchmarks.whole_sentences --data FOLDER --out DIR [--held-out 1200]

The 67,349 training texts of SST-2 are phrases, most of them parts of the same 6,900 sentences, and
its test texts are whole sentences. A part held out at random is therefore known from training: what
a network loses on new sentences does not show there. This holds out whole sentences, texts that no
other training text contains, and leaves every phrase of theirs out of training. The labelled split
that everyone reports becomes `test`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import DatasetDict, load_dataset

Phrase = tuple[str, ...]


def phrases(sentence: Phrase) -> set[Phrase]:
    """Every run of words of a sentence, itself included."""
    n = len(sentence)
    return {sentence[start:end] for start in range(n) for end in range(start + 1, n + 1)}


def whole(texts: Sequence[Phrase]) -> list[Phrase]:
    """The texts that are no part of another one, longest first."""
    parts: set[Phrase] = set()
    found = []
    for text in sorted(set(texts), key=lambda text: (-len(text), text)):
        if text not in parts:
            found.append(text)
            parts |= phrases(text)
    return found


def hold_out(texts: Sequence[Phrase], sentences: int) -> tuple[list[int], list[int]]:
    """Rows to train on, and rows of held-out sentences; the same whenever it is called."""
    candidates = whole(texts)
    chosen = np.random.default_rng(0).permutation(len(candidates))[:sentences]
    held = {candidates[number] for number in chosen}
    known = set().union(*(phrases(sentence) for sentence in held))
    train = [row for row, text in enumerate(texts) if text not in known]
    return train, [row for row, text in enumerate(texts) if text in held]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder or name of SST-2")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--held-out", type=int, default=1200, help="sentences for validation")
    arguments = parser.parse_args()
    given = load_dataset(arguments.data)
    column = "sentence" if "sentence" in given["train"].column_names else "text"
    texts = [tuple(text.split()) for text in given["train"][column]]
    train, validation = hold_out(texts, arguments.held_out)
    splits = DatasetDict(
        train=given["train"].select(train),
        validation=given["train"].select(validation),
        test=given["validation"],
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        split.to_parquet(arguments.out / f"{name}.parquet")
        print(f"{name}: {len(split)} texts")


if __name__ == "__main__":
    main()
