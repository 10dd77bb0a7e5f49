"""Smaller vocabularies: which pieces they keep, how texts are written in them, what is shipped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from benchmarks import word_table
from hardware.formats.scheme import QuantScheme
from supernets.data.account import DataAccount
from supernets.data.data import TaskData
from supernets.data.text import TextPreprocessor, TextSplit
from supernets.data.vocabulary.cost import other_texts, vocabularies
from supernets.data.vocabulary.pieces import Pieces
from supernets.data.vocabulary.tokenizer import UNKNOWN, train_tokenizer
from supernets.data.vocabulary.written import told
from supernets.families.bert.config import BertConfig
from supernets.load import load_data, load_supernet, order_pieces
from supernets.model_settings import ModelSettings
from supernets.settings import DataSettings, PolishSettings, SpaceSettings, TuneSettings
from supernets.space.space import SearchSpace
from supernets.tasks.task import UNASKED
from supernets.tasks.tokens import Tokens
from supernets.training.tune import InstaTuner, Polisher
from tests import test_shipped_texts as shipped

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
    model: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    return model


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
    with pytest.raises(ValueError, match=r"ByT5Tokenizer\) is no fast one; fast tokenizers"):
        Pieces.by_use(ByT5Tokenizer(), np.zeros(400, np.int64))
    pieces = pieces_of(word_pieces())
    found = rf"5 pieces of {len(pieces.order)} are too few: .* are {pieces.needed}; give at least 0"
    with pytest.raises(ValueError, match=found):
        pieces.cut(5)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    """Texts of few words, most of them in pieces, for a network trained from scratch."""
    return load_data(settings_of(tmp_path_factory.mktemp("reviews") / "data"), MODEL)


MODEL = ModelSettings.from_scratch(
    BertConfig(vocab_size=60, max_positions=24, embed_dim=8, depth=2, num_heads=2, hidden_dim=16)
)


def settings_of(folder: Path) -> DataSettings:
    return DataSettings(name=str(shipped.folder_of_data(folder)), kept_back=0)


def preprocessor_of(data: TaskData) -> TextPreprocessor:
    assert isinstance(data.preprocessor, TextPreprocessor)
    return data.preprocessor


def split_of(data: TaskData) -> TextSplit:
    assert isinstance(data.train, TextSplit)
    return data.train


def sizes_of(data: TaskData) -> tuple[int, int]:
    """The smallest vocabulary, and the smallest that holds all that training texts use."""
    preprocessor = preprocessor_of(data)
    assert preprocessor.uses is not None
    needed, order = preprocessor.pieces.needed, preprocessor.pieces.order
    return needed, needed + int((preprocessor.uses[order[needed:]] > 0).sum())


def start(data: TaskData, *sizes: int) -> tuple[Any, SearchSpace]:
    network = load_supernet(MODEL, data, 0).network
    space = network.space(SpaceSettings.model_validate({"vocabulary": sizes, "depth": [2]}))
    order_pieces(network, space, data)
    return network, space


def test_a_split_in_smaller_pieces(reviews: TaskData) -> None:
    """The same texts and targets, whatever part of them, in ids of the whole vocabulary."""
    split, (size, enough) = split_of(reviews), sizes_of(reviews)
    smaller, architecture = preprocessor_of(reviews).pieces.cut(size), {"vocabulary": size}
    rows = torch.tensor([5, 0, 7])
    for part in (split, split.part(torch.arange(10)).part(rows), split.part(rows)):
        seen = part.seen_by(architecture)
        assert torch.equal(torch.as_tensor(seen.labels), torch.as_tensor(part.labels))
        assert part.seen_by(architecture) is seen
        for own, whole in zip(seen.texts, part.texts, strict=True):
            text = str(
                preprocessor_of(reviews).tokenizer.decode(whole[0], skip_special_tokens=True)
            )
            ids = smaller(text.replace(" ##", ""), truncation=True, max_length=24)["input_ids"]
            assert preprocessor_of(reviews).pieces.ids[own[0]].tolist() == ids or own.shape[1] == 24
    assert split.seen_by({}) is split is split.seen_by({"vocabulary": 60})
    batch = next(split.batches(4, generator=torch.Generator().manual_seed(0)))
    assert split.rewritten(batch, {"depth": 1}) is batch
    same = split.rewritten(batch, {"vocabulary": enough})
    assert all(torch.equal(same.inputs[name], batch.inputs[name]) for name in batch.inputs)
    noisy = split.noisy(0.5, preprocessor_of(reviews).tokenizer).seen_by(architecture)
    drawn = next(noisy.batches(20, generator=torch.Generator().manual_seed(0))).inputs["input_ids"]
    assert set(preprocessor_of(reviews).pieces.ids[drawn].flatten()) <= set(range(size))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_training_where_no_text_changes_is_as_without(reviews: TaskData, noise: float) -> None:
    """Tuning and polishing see a vocabulary that holds all pieces in use as the whole one."""
    split, (_, enough) = split_of(reviews), sizes_of(reviews)
    tune = TuneSettings(batch_size=8, epochs=1)
    losses = []
    for size in (enough, 60):
        network, space = start(reviews, size)
        losses.append([InstaTuner(network, space, split, tune, 0).step() for _ in range(2)])
    assert losses[0] == losses[1]
    polish, found = PolishSettings(batch_size=8, epochs=1, block_weight=0.5), []
    for size in (enough, 60):
        network, _ = start(reviews, size)
        changed = split.noisy(noise, preprocessor_of(reviews).tokenizer) if noise else split
        polisher = Polisher(
            network, start(reviews, size)[0], {"vocabulary": size}, {}, changed, polish, 0,
            QuantScheme(),
        )  # fmt: skip
        found.append([polisher.step() for _ in range(2)])
    assert found[0] == found[1]


def test_the_teacher_reads_its_own_pieces(reviews: TaskData) -> None:
    split, (size, _) = split_of(reviews), sizes_of(reviews)
    network, _ = start(reviews, size)
    teacher, settings = start(reviews, size)[0], PolishSettings(batch_size=8, block_weight=0.5)
    polisher = Polisher(
        network, teacher, {"vocabulary": size}, {}, split, settings, 0, QuantScheme()
    )
    batch = next(polisher.split.batches(8, generator=torch.Generator().manual_seed(0)))
    taught = polisher._teach(batch)
    assert taught is not None
    own = split.batch(batch.rows)
    assert own.inputs["attention_mask"].sum() < batch.inputs["attention_mask"].sum()
    torch.testing.assert_close(taught.logits, teacher(**own.inputs), atol=1e-5, rtol=1e-5)
    polisher.step()  # outputs of blocks are compared piece by piece


def test_words_are_asked_of_both_where_one_text_is_cut() -> None:
    tokens, no = Tokens(("a", "b")), UNASKED
    longer = torch.tensor([[no, 0, no, 1, no, no], [no, 1, 0, no, no, no]])
    shorter = torch.tensor([[no, 0, 1, 1, no], [no, 1, 0, no, no]])
    here, there = tokens.matched(longer, shorter)
    assert here.tolist() == longer.tolist()
    assert there.tolist() == [[no, 0, 1, no, no], [no, 1, 0, no, no]]


def test_longer_texts_cost_more(reviews: TaskData) -> None:
    """MACs and example inputs are of as many more tokens as texts take that pieces were not
    chosen by."""
    split, (size, _) = reviews.validation, sizes_of(reviews)
    network, space = start(reviews, size, 60)
    seen = split.seen_by({"vocabulary": size})
    assert isinstance(split, TextSplit)
    assert isinstance(seen, TextSplit)
    stretch = float(seen.lengths.sum() / split.lengths.sum())
    assert stretch > 1.1
    network.activate({"vocabulary": size})
    assert network.example_inputs(1, 10)["input_ids"].shape == (1, round(10 * stretch))
    assert network.example_inputs(1, 24)["input_ids"].shape == (1, 24), "no more than positions"
    genomes = np.stack([space.largest(), space.largest()])
    genomes[0, space.column["vocabulary"]] = 0
    few, all_of_them = network.cost(space, genomes, 10).macs
    alone = network.cost(space, genomes, round(10 * stretch)).macs[1]
    assert few == alone > all_of_them


def test_what_a_smaller_vocabulary_costs_is_counted(reviews: TaskData) -> None:
    size, _ = sizes_of(reviews)
    found = vocabularies(reviews, [size], "reviews")
    seen = reviews.validation.seen_by({"vocabulary": size})
    assert isinstance(seen, TextSplit)
    texts = found[str(size)]["validation"]
    assert (texts.texts, texts.tokens, texts.unknown) == (shipped.ASKED, int(seen.lengths.sum()), 0)
    assert texts.filled == sum(length >= 24 for length in seen.lengths.tolist())
    others = list(other_texts("reviews"))
    tokenizer = preprocessor_of(reviews).pieces.cut(size)
    ids = tokenizer(others, truncation=True, max_length=24)["input_ids"]
    counted = found[str(size)]["texts of another source"]
    assert counted.tokens == sum(map(len, ids))
    assert counted.unknown == sum(row.count(tokenizer.unk_token_id) for row in ids) > 0
    lines = list(told(found))
    assert len(lines) == 2
    assert f"vocabulary of {size} of 60 pieces, validation" in lines[0]
    account = replace(reviews.source.account, vocabularies=found)
    assert DataAccount.from_json(json.loads(json.dumps(account.to_json()))) == account
    assert lines == list(account.remarks())[-2:]
    assert not set(other_texts("pydoc")) & set(others)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_low_rank_misses_what_is_left_of_the_energy(weighted: bool) -> None:
    """The error of the benchmark's products is that of singular values behind their rank."""
    generator = torch.Generator().manual_seed(0)
    uses = torch.randint(9, (30,), generator=generator).float()
    table = word_table.WordTable(torch.randn(30, 8, generator=generator), uses)
    scale = (uses + 1).sqrt()[:, None] if weighted else torch.ones(1)
    energy = torch.linalg.svdvals(scale * table.weight).square()
    for rank in (1, 5, 8):
        across = table.directions(weighted)[:, :rank]
        product = table.weight @ across @ across.T
        missed = (scale * (product - table.weight)).square().sum()
        torch.testing.assert_close(missed, energy[rank:].sum(), atol=1e-4, rtol=1e-4)
        if not weighted:
            assert table.errors(product)[0] == pytest.approx(float(missed / energy.sum()), abs=1e-5)


def test_the_table_of_ways_has_their_bytes() -> None:
    table = word_table.WordTable(torch.randn(512, 64), torch.ones(512))
    found = {title: (size, plain, used) for title, size, plain, used in word_table.ways(table)}
    assert found["int8"][0] == pytest.approx(512 * (64 + 4), rel=0.03)
    assert found["int2"][0] < found["int3"][0] < found["int4"][0] < found["int8"][0]
    assert found["int2"][1] > found["int3"][1] > found["int4"][1] > found["int8"][1]
    assert all(plain == pytest.approx(used) for _, plain, used in found.values())
