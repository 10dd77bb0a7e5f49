"""Smaller vocabularies: which pieces they keep, how texts are written in them, what is shipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from supernets.data.text import UNKNOWN, train_tokenizer
from supernets.data.vocabulary.pieces import Pieces

SEEN = [
    "abab cab",
    "abab dab",
    "face abba",
    "hijab jab",
    "cab cab face",
    "a b c d e f g h i j",
    "bcadefgihj jihgfedabc",
]
OTHERS = ["abacadabababa", "figgi", "jib cage", "abab", "hijac a cab"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """With special tokens around texts and pairs."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")],
    )
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def learned(model: Any, trainer: Any, split: Any, size: int = 60) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = split
    options: dict[str, Any] = {"special_tokens": SPECIAL, "show_progress": False}
    tokenizer.train_from_iterator(SEEN, trainer(vocab_size=size, **options))
    return fast(tokenizer)


def pairs_with_ends() -> PreTrainedTokenizerFast:
    """Byte pairs as of words whose last letter is marked."""
    trainer = lambda **options: trainers.BpeTrainer(end_of_word_suffix="</w>", **options)  # noqa: E731
    model = models.BPE(unk_token=SPECIAL[3], end_of_word_suffix="</w>")
    return learned(model, trainer, pre_tokenizers.Whitespace())


def pairs_with_insides() -> PreTrainedTokenizerFast:
    """Byte pairs as of words whose letters but the first are marked."""
    trainer = lambda **options: trainers.BpeTrainer(  # noqa: E731
        continuing_subword_prefix="##", **options
    )
    model = models.BPE(unk_token=SPECIAL[3], continuing_subword_prefix="##")
    return learned(model, trainer, pre_tokenizers.Whitespace())


def bytes_in_pairs() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return learned(models.BPE(), trainers.BpeTrainer, split)


def likely_pieces() -> PreTrainedTokenizerFast:
    trainer = lambda **options: trainers.UnigramTrainer(unk_token=SPECIAL[3], **options)  # noqa: E731
    return learned(models.Unigram(), trainer, pre_tokenizers.Metaspace())


def word_pieces() -> Any:
    return train_tokenizer(SEEN, 60, ["input_ids", "attention_mask"])


TOKENIZERS: tuple[Callable[[], Any], ...] = (
    word_pieces,
    bytes_in_pairs,
    pairs_with_ends,
    pairs_with_insides,
    likely_pieces,
)
every_kind = pytest.mark.parametrize("made", TOKENIZERS, ids=lambda made: made.__name__)


def pieces_of(tokenizer: Any, fixed: int = 0) -> Pieces:
    ids = np.concatenate(tokenizer(SEEN)["input_ids"])
    return Pieces.by_use(tokenizer, np.bincount(ids, minlength=len(tokenizer) + 3), fixed)


def model_of(tokenizer: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return content["model"]


def longest_first(word: str, model: dict[str, Any]) -> list[str]:
    """WordPiece by its definition (Wu et al. 2016)."""
    found: list[str] = []
    while word:
        mark = "##" if found else ""
        end = next(n for n in range(len(word), 0, -1) if mark + word[:n] in model["vocab"])
        found, word = [*found, mark + word[:end]], word[end:]
    return found


def likeliest(word: str, model: dict[str, Any]) -> list[str]:
    """The best of all segmentations, tried one by one (Kudo 2018)."""
    scores = dict(model["vocab"])

    def ways(rest: str) -> list[list[str]]:
        if not rest:
            return [[]]
        heads = [rest[:n] for n in range(1, len(rest) + 1) if rest[:n] in scores]
        return [[head, *tail] for head in heads for tail in ways(rest[len(head) :])]

    return max(ways(word), key=lambda way: sum(scores[piece] for piece in way))


def merged(word: str, model: dict[str, Any]) -> list[str]:
    """Byte pairs by their definition (Sennrich et al. 2016), the first merge of the list first."""
    inside = model["continuing_subword_prefix"] or ""
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    symbols = [("" if place == 0 else inside) + letter for place, letter in enumerate(word)]
    symbols[-1] += model["end_of_word_suffix"] or ""
    while True:
        there = [pair for pair in pairwise(symbols) if pair in ranks]
        if not there:
            return symbols
        best, place, joined = min(there, key=ranks.__getitem__), 0, []
        while place < len(symbols):
            both = tuple(symbols[place : place + 2]) == best
            joined.append(best[0] + best[1].removeprefix(inside) if both else symbols[place])
            place += 1 + both
        symbols = joined


def read(pieces: Sequence[str]) -> str:
    """The letters that pieces stand for."""
    return "".join(pieces).replace("##", "").replace("</w>", "")


Define = Callable[[str, dict[str, Any]], list[str]]
BY_DEFINITION: dict[str, Define] = {
    "WordPiece": longest_first,
    "Unigram": likeliest,
    "BPE": merged,
}


@every_kind
def test_words_are_written_as_the_kind_defines_it(made: Callable[[], Any]) -> None:
    """In any vocabulary, with no unknown token where there was none, and as the same text."""
    tokenizer = made()
    pieces = pieces_of(tokenizer)
    for size in range(pieces.needed, len(tokenizer)):
        smaller = pieces.cut(size)
        model = model_of(smaller)
        assert len(smaller) == size
        assert sorted(smaller.get_vocab().values()) == list(range(size))
        for text in (*SEEN, *OTHERS):
            words = smaller.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
            by_definition = BY_DEFINITION[model["type"]]
            expected = [piece for word, _ in words for piece in by_definition(word, model)]
            assert smaller.tokenize(text) == expected
            assert smaller.unk_token_id not in smaller(text)["input_ids"]
            assert read(smaller.tokenize(text)) == read(tokenizer.tokenize(text))


@every_kind
def test_texts_of_kept_pieces_stay_as_they_are(made: Callable[[], Any]) -> None:
    tokenizer = made()
    pieces, kept = pieces_of(tokenizer), 0
    for size in range(pieces.needed, len(tokenizer)):
        smaller = pieces.cut(size)
        for text in (*SEEN, *OTHERS):
            ids = pieces.ids[tokenizer(text)["input_ids"]]
            if ids.max() < size:
                assert smaller(text)["input_ids"] == ids.tolist()
                kept += 1
    assert kept > len(SEEN)


@every_kind
def test_the_most_used_pieces_are_kept(made: Callable[[], Any]) -> None:
    tokenizer = made()
    pieces = pieces_of(tokenizer, fixed=2)
    assert sorted(pieces.order) == list(range(len(tokenizer) + 3))
    assert pieces.order[:2].tolist() == [0, 1]
    assert set(pieces.order[-3:]) == set(range(len(tokenizer), len(tokenizer) + 3)), "no pieces"
    uses = np.bincount(np.concatenate(tokenizer(SEEN)["input_ids"]), minlength=len(tokenizer))
    rest = pieces.order[pieces.needed : len(tokenizer)]
    model = model_of(tokenizer)
    if model["type"] != "BPE":
        assert (np.diff(uses[rest]) <= 0).all()
        return
    names, inside = (
        tokenizer.convert_ids_to_tokens(rest),
        model["continuing_subword_prefix"],
    )
    makers = {a + b.removeprefix(inside or ""): (a, b) for a, b in reversed(model["merges"])}
    for place, name in enumerate(names):  # what a piece is merged from is kept before it
        assert not set(makers[name]) & set(names[place:])


@every_kind
def test_what_is_around_texts_stays(made: Callable[[], Any], tmp_path: Path) -> None:
    """Special tokens of one text and two, cutting, padding; and it comes back from its files."""
    tokenizer = made()
    pieces = pieces_of(tokenizer)
    tokenizer.backend_tokenizer.enable_padding(
        pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token, length=30
    )
    tokenizer.backend_tokenizer.enable_truncation(12)
    smaller = pieces.cut(pieces.needed + 2)
    smaller.save_pretrained(tmp_path)
    files = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    whole = [tokenizer.backend_tokenizer.encode("face", "jab"), files.encode("face", "jab")]
    special = {*tokenizer.all_special_tokens} - {tokenizer.pad_token}
    marks = [[token for token in found.tokens if token in special] for found in whole]
    assert marks[0] == marks[1]
    assert len(whole[1].ids) == 30
    assert len(files.encode("cab " * 30).ids) == 30
    assert sum(files.encode("cab " * 30).attention_mask) == 12
    opened = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*SEEN, *OTHERS):
        assert opened(text)["input_ids"] == smaller(text)["input_ids"]
    for name in ("pad_token_id", "unk_token_id", "bos_token_id", "sep_token_id"):
        before, after = getattr(tokenizer, name), getattr(opened, name)
        assert after == (None if before is None else pieces.ids[before])


def test_a_piece_with_a_letter_of_no_other_piece_is_kept() -> None:
    vocabulary = {"[UNK]": 0, "a": 1, "##a": 2, "ab": 3, "##b": 4, "ax": 5, "aab": 6}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    fast_one = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN)
    pieces = Pieces.by_use(fast_one, np.zeros(7, np.int64))
    assert pieces.order.tolist() == [0, 1, 2, 4, 5, 3, 6]
    assert pieces.needed == 5


def test_a_tokenizer_that_cannot_be_cut() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token=UNKNOWN))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN)
    with pytest.raises(ValueError, match=r"kind WordLevel; fast tokenizers .* WordPiece, BPE, Uni"):
        Pieces.by_use(wrapped, np.zeros(2, np.int64))
    pieces = pieces_of(word_pieces())
    found = rf"5 pieces of {len(pieces.order)} are too few: .* are {pieces.needed}; give at least 0"
    with pytest.raises(ValueError, match=found):
        pieces.cut(5)
