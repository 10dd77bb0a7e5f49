"""Splits, tables and built-in data: nothing overlaps, nothing is guessed silently."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from supernets.data.builtin import pydoc_text
from supernets.data.data import (
    Batch,
    Split,
    TaskData,
    batch_count,
    batch_indices,
    calibration_batches,
)
from supernets.data.hf_datasets import open_tables, spread
from supernets.data.image_preprocessor import ImagePreprocessor
from supernets.data.images import ImageSplit, RandomAffine
from supernets.data.text import (
    TextPreprocessor,
    TextSplit,
    pad,
)
from supernets.data.vocabulary.tokenizer import train_tokenizer
from supernets.families.bert.config import BertConfig
from supernets.families.vit.config import VitConfig
from supernets.model_settings import ModelSettings
from supernets.open_data import load_data, noisy
from supernets.settings import DataSettings

VIT = ModelSettings.from_scratch(VitConfig(image_size=16))
BERT = ModelSettings.from_scratch(BertConfig(vocab_size=200, max_positions=16))


def pixels_of(split: Split) -> Tensor:
    assert isinstance(split, ImageSplit)
    assert isinstance(split.pixels, Tensor)
    return split.pixels


def labels_of(split: Split) -> Tensor:
    assert isinstance(split, ImageSplit)
    return split.labels


def rows_of(split: Split) -> set[tuple[int, ...]]:
    return {tuple(image.flatten().tolist()) for image in pixels_of(split)}


@pytest.fixture(scope="module")
def digits() -> TaskData:
    return load_data(DataSettings(name="digits", kept_back=0), VIT)


def test_digits_are_split_once_and_by_class(digits: TaskData) -> None:
    sizes = [len(split) for split in (digits.train, digits.validation, digits.test)]
    assert sizes == [1000, 397, 400]
    for split in (digits.validation, digits.test):
        share = np.bincount(labels_of(split)) / len(split)
        np.testing.assert_allclose(share, np.bincount(labels_of(digits.train)) / 1000, atol=0.004)
    assert not rows_of(digits.validation) & rows_of(digits.test)
    again = load_data(DataSettings(name="digits"), VIT)
    assert torch.equal(pixels_of(again.test), pixels_of(digits.test))


@pytest.mark.parametrize("name", ["digits", "pydoc"])
def test_all_of_a_batch_is_on_the_device_asked_for(digits: TaskData, name: str) -> None:
    """On torch's device without memory, where mixing it with another is an error."""
    data = digits if name == "digits" else load_data(DataSettings(name=name, max_train=50), BERT)
    for generator in (None, torch.Generator().manual_seed(0)):
        batches = data.train.batches(8, generator=generator, device=torch.device("meta"))
        batch = next(batches)
        for tensor in (*batch.inputs.values(), batch.labels, batch.rows):
            assert tensor.is_meta
            assert len(tensor) == 8


def test_same_generator_gives_the_same_batches_from_any_start(digits: TaskData) -> None:
    def draw(start: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(3)
        return list(digits.train.batches(300, generator=generator, start=start))

    whole, tail = draw(0), draw(2)
    assert [len(batch.labels) for batch in whole] == [300, 300, 300, 100]
    for full, late in zip(whole[2:], tail, strict=True):
        assert torch.equal(full.inputs["pixel_values"], late.inputs["pixel_values"])
    everything = torch.cat([batch.labels for batch in whole])
    assert torch.equal(everything.bincount(), labels_of(digits.train).bincount())


def test_calibration_batches_are_shuffled_but_unchanged(digits: TaskData) -> None:
    first = calibration_batches(digits.train, samples=100, batch_size=50)
    assert isinstance(digits.preprocessor, ImagePreprocessor)
    plain = digits.preprocessor.normalise(pixels_of(digits.train))
    known = {tuple(image.flatten().tolist()) for image in plain}
    drawn = torch.cat([batch.inputs["pixel_values"] for batch in first])
    assert len(drawn) == 100
    assert {tuple(image.flatten().tolist()) for image in drawn} <= known
    assert not torch.equal(drawn, plain[:100])


def test_batch_indices_cover_every_row_once() -> None:
    rows = torch.cat([r for r, _ in batch_indices(10, 4, torch.Generator().manual_seed(0), 0)])
    assert sorted(rows.tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (33, 32, [33]),
        (65, 32, [32, 33]),
        (34, 32, [32, 2]),
        (3, 2, [3]),
        (1, 4, [1]),
        (2, 1, [1, 1]),
    ],
)
def test_no_sample_is_trained_on_alone(n: int, size: int, expected: list[int]) -> None:
    """Wherever the pass starts, and for texts of like length too; evaluation keeps its batches."""
    for lengths in (None, torch.arange(n)):
        drawn = list(batch_indices(n, size, torch.Generator().manual_seed(0), 0, lengths))
        assert [len(rows) for rows, _ in drawn] == expected
        assert sorted(torch.cat([rows for rows, _ in drawn]).tolist()) == list(range(n))
        late = list(batch_indices(n, size, torch.Generator().manual_seed(0), 1, lengths))
        assert [len(rows) for rows, _ in late] == expected[1:]
    assert batch_count(n, size) == len(expected)
    in_order = [len(rows) for rows, _ in batch_indices(n, size, None, 0)]
    assert in_order == [size] * (n // size) + [n % size] * (n % size > 0)


@pytest.mark.parametrize(("n", "count"), [(5, 3), (5, 2), (3, 2), (1, 2), (8, 3), (2, 4)])
def test_no_part_of_a_batch_is_one_sample_alone(n: int, count: int) -> None:
    batch = Batch({"x": torch.arange(n)}, torch.arange(n), torch.arange(n))
    parts = batch.parts(count)
    sizes = [len(part.labels) for part in parts]
    assert len(parts) == count
    assert torch.equal(torch.cat([part.inputs["x"] for part in parts]), torch.arange(n))
    assert n == 1 or 1 not in sizes
    assert max(sizes) - min(size for size in sizes if size) <= 1


def test_batches_of_like_length_cover_every_row_once_wherever_they_start() -> None:
    lengths = torch.randint(3, 40, (10_007,), generator=torch.Generator().manual_seed(1))

    def drawn(start: int, lengths: Tensor | None) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        return [rows for rows, _ in batch_indices(10_007, 64, generator, start, lengths)]

    def padded(batches: Iterable[Tensor]) -> int:
        return sum(len(rows) * int(lengths[rows].max()) for rows in batches)

    grouped = drawn(0, lengths)
    assert sorted(torch.cat(grouped).tolist()) == list(range(10_007))
    assert [len(rows) for rows in grouped] == [64] * 156 + [23]
    for late, rows in zip(drawn(100, lengths), grouped[100:], strict=True):
        assert torch.equal(late, rows)
    assert padded(grouped) < 1.1 * int(lengths.sum()) < padded(drawn(0, None))
    longest = [int(lengths[rows].max()) for rows in grouped[:-1]]
    assert sorted(longest) != longest


def test_texts_come_in_order_where_they_are_not_shuffled() -> None:
    lengths = torch.tensor([9, 1, 5, 2])
    rows = torch.cat([rows for rows, _ in batch_indices(4, 2, None, 0, lengths)])
    assert rows.tolist() == [0, 1, 2, 3]


def test_no_augmentation_leaves_images_alone() -> None:
    images = torch.rand(4, 3, 8, 8)
    unchanged = RandomAffine(0, 0, 0)(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(unchanged, images, atol=1e-5, rtol=0)


def test_flip_mirrors_left_to_right() -> None:
    images = torch.rand(64, 1, 8, 8)
    flipped = RandomAffine(0, 0, 0, flip=True)(images, torch.Generator().manual_seed(0))
    mirrored = (flipped - images.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    same = (flipped - images).abs().amax((1, 2, 3)) < 1e-4
    assert (mirrored != same).all()
    assert 16 < mirrored.sum() < 48


def test_spread_is_proportional_and_fixed() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    chosen = spread(labels, 20)
    assert np.bincount(labels[chosen]).tolist() == [12, 6, 2]
    assert len(set(chosen.tolist())) == 20
    assert np.array_equal(chosen, spread(labels, 20))


# Text


def test_padding_is_masked() -> None:
    texts = [torch.tensor([[5, 6, 7], [0, 0, 1]]), torch.tensor([[8], [0]])]
    batch = pad(texts, pad_id=9, names=BertConfig().inputs)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1], [0, 0, 0]]


def test_trained_tokenizer_survives_saving(tmp_path: Path) -> None:
    texts = ["the cat sat on the mat", "a dog ran after the cat"] * 3
    ours = TextPreprocessor(train_tokenizer(texts, 60, BertConfig().inputs), 12)
    ours.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["model_max_length"] == 12
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    given = theirs("The cat ran", "a dog sat", return_tensors="pt")
    encoded = ours.encode(["The cat ran"], ["a dog sat"])[0]
    assert torch.equal(encoded, torch.stack([given["input_ids"], given["token_type_ids"]])[:, 0])
    assert encoded[1].tolist()[:2] == [0, 0]
    assert encoded[1].tolist()[-2:] == [1, 1]
    assert ours.encode([" ".join(texts)], None)[0].shape[1] == 12


def test_pydoc_splits_share_no_sentence_and_cover_all_packages() -> None:
    names, splits = pydoc_text.collect(pydoc_text.standard_library())
    texts = {split: {row.text for row in rows} for split, rows in splits.items()}
    assert sum(map(len, texts.values())) == sum(map(len, splits.values())) > 3500
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    for rows in splits.values():
        assert {row.label for row in rows} == set(range(len(names)))


def test_pydoc_part_ignores_case_and_punctuation() -> None:
    assert pydoc_text.part("Close the file.") == pydoc_text.part("close  THE file")


# Tables


def write_csv(folder: Path, name: str, rows: Sequence[str], header: str = "text,label") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")


def text_rows(n: int, tag: str) -> list[str]:
    return [f"{tag} number {i},{'yes' if i % 3 else 'no'}" for i in range(n)]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_missing_splits_come_from_train_and_never_mix(tmp_path: Path) -> None:
    write_csv(tmp_path, "train", text_rows(90, "a"))
    tables = open_tables(DataSettings(name=str(tmp_path), holdout=0.2), "text")
    splits = (tables.train, tables.validation, tables.test)
    texts = [set(table.column("text")) for table in splits]
    assert [len(t) for t in texts] == [54, 18, 18]
    assert len(set.union(*texts)) == 90
    assert tables.label_names == ("no", "yes")
    assert len(tables.notes) == 2
    again = open_tables(DataSettings(name=str(tmp_path), holdout=0.2), "text")
    assert set(again.test.column("text")) == texts[2]


def test_given_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    for name, n in (("train", 30), ("dev", 12), ("test", 9)):
        write_csv(tmp_path, name, text_rows(n, name))
    settings = DataSettings(name=str(tmp_path), max_train=15, max_test=6)
    tables = open_tables(settings, "text")
    sizes = [len(t.rows) for t in (tables.train, tables.validation, tables.test)]
    assert sizes == [15, 12, 6]
    assert tables.notes == ()


def test_a_split_asked_for_is_taken_for_nothing_else(tmp_path: Path) -> None:
    for name, n in (("train", 40), ("validation", 12)):
        write_csv(tmp_path, name, text_rows(n, name))
    tables = open_tables(DataSettings(name=str(tmp_path), test_split="validation"), "text")
    texts = [set(t.column("text")) for t in (tables.train, tables.validation, tables.test)]
    assert [len(t) for t in texts] == [36, 4, 12]
    assert all(text.startswith("validation") for text in texts[2])
    assert all(text.startswith("train") for text in texts[0] | texts[1])


def test_unlabelled_test_split_is_replaced(tmp_path: Path) -> None:
    rows = [f"text {i},{i % 2}" for i in range(40)]
    write_csv(tmp_path, "train", rows)
    write_csv(tmp_path, "test", [f"other {i},-1" for i in range(8)])
    tables = open_tables(DataSettings(name=str(tmp_path)), "text")
    assert tables.unused == {"rows of the test split, which has no labels": 8}
    assert all(text.startswith("text") for text in tables.test.column("text"))


def test_pairs_are_found_and_encoded_together(tmp_path: Path) -> None:
    rows = [f"first {i},second {i},{i % 2}" for i in range(20)]
    write_csv(tmp_path, "train", rows, "premise,hypothesis,label")
    data = load_data(DataSettings(name=str(tmp_path)), BERT)
    batch = next(data.train.batches(4))
    assert batch.inputs["token_type_ids"].max() == 1
    assert data.label_names == ("0", "1")


def test_jsonl_and_named_columns(tmp_path: Path) -> None:
    rows = [{"body": f"words {i}", "kind": "ab"[i % 2], "title": "t"} for i in range(20)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    settings = DataSettings(name=str(tmp_path), text_column="body", label_column="kind")
    assert open_tables(settings, "text").inputs == ("body",)


@pytest.mark.parametrize(
    ("header", "settings", "message"),
    [
        ("text,label", {"text_column": "body"}, "no column 'body'; there are text, label"),
        ("body,title,label", {}, r"cannot tell which column is meant \(fitting: body, title\)"),
        ("text,kind", {}, r"data.label_column: cannot tell .* \(fitting: none\)"),
        ("text,label", {"test_split": "exam"}, "'exam' is not in .* it has train"),
        ("text,label", {"test_split": "train", "train_split": "train"}, "given for two splits"),
        ("text,label", {"name": "/nowhere/at/all"}, "there is no file or folder"),
    ],
)
def test_unusable_tables_are_one_clear_message(
    header: str, settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    columns = header.count(",") + 1
    write_csv(tmp_path, "train", [",".join(["x y"] * columns)] * 8, header)
    with pytest.raises(ValueError, match=message):
        open_tables(DataSettings(**{"name": str(tmp_path), **settings}), "text")


def test_label_that_train_lacks_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path, "train", text_rows(12, "a"))
    write_csv(tmp_path, "test", ["some text,maybe"])
    with pytest.raises(ValueError, match=r"labels \['maybe'\] of the test split do not occur"):
        open_tables(DataSettings(name=str(tmp_path)), "text")


def test_column_of_unique_values_is_no_label(tmp_path: Path) -> None:
    write_csv(tmp_path, "train", [f"text {i},{i}" for i in range(12)])
    with pytest.raises(ValueError, match="12 different values in 12 rows"):
        open_tables(DataSettings(name=str(tmp_path)), "text")


def test_too_long_a_sequence_is_refused(tmp_path: Path) -> None:
    settings = DataSettings(name="pydoc", max_length=17)
    with pytest.raises(ValueError, match="17 tokens, but the model has 16 positions"):
        load_data(settings, BERT)


def test_token_noise_replaces_its_part_of_ordinary_tokens_alone() -> None:
    data = load_data(DataSettings(name="pydoc", max_train=600), BERT)
    assert isinstance(data.preprocessor, TextPreprocessor)
    assert isinstance(data.train, TextSplit)
    tokenizer, part = data.preprocessor.tokenizer, 0.2
    split = noisy(data, part)
    assert (data.train.augmented, split.augmented) == (False, True)
    special = torch.tensor(tokenizer.all_special_ids)

    def shuffled(split: Split, start: int = 0, **options: Any) -> list[Batch]:
        generator = torch.Generator().manual_seed(0)
        return list(split.batches(50, generator=generator, start=start, **options))

    replaced, ordinary, masked, rates = 0, 0, 0, []
    for clean, changed in zip(shuffled(data.train), shuffled(split), strict=True):
        before, after = clean.inputs["input_ids"], changed.inputs["input_ids"]
        assert torch.equal(clean.inputs["attention_mask"], changed.inputs["attention_mask"])
        fixed = torch.isin(before, special)
        assert torch.equal(before[fixed], after[fixed])
        moved = before != after
        rates += (moved.sum(1) / (~fixed).sum(1)).tolist()
        replaced, ordinary = replaced + int(moved.sum()), ordinary + int((~fixed).sum())
        masked += int((moved & (after == tokenizer.unk_token_id)).sum())
    assert replaced / ordinary == pytest.approx(part, abs=0.02)
    assert masked / replaced == pytest.approx(0.5, abs=0.05)
    assert max(rates) <= 1
    late = shuffled(split, start=7)[0]
    assert torch.equal(late.inputs["input_ids"], shuffled(split)[7].inputs["input_ids"])
    for batches in (shuffled(split, augment=False), list(split.batches(50))):
        ids = {tuple(row.tolist()) for batch in batches for row in _texts(batch)}
        assert ids == {tuple(text[0].tolist()) for text in data.train.texts}


def _texts(batch: Batch) -> list[Tensor]:
    both = zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True)
    return [row[mask.bool()] for row, mask in both]


def test_data_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'digits' are images, a bert model reads texts"):
        load_data(DataSettings(name="digits"), BERT)
    with pytest.raises(ValueError, match="'pydoc' are texts, a vit model reads images"):
        load_data(DataSettings(name="pydoc"), VIT)


def test_a_vocabulary_is_learned_alike_in_every_process() -> None:
    """Continuing a run learns it again: other ids would change what the network reads."""
    code = (
        "from supernets.data.vocabulary.tokenizer import train_tokenizer\n"
        "texts = [f'{a}handshake {b}executor {a * b}' for a in range(40) for b in range(9)]\n"
        "vocabulary = train_tokenizer(texts, 120, ['input_ids']).get_vocab()\n"
        "print(sorted(vocabulary.items(), key=lambda item: item[1]))\n"
    )
    command = [sys.executable, "-c", code]
    printed = {
        subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    }
    assert len(printed) == 1
    assert b"('[PAD]', 0)" in printed.pop()
