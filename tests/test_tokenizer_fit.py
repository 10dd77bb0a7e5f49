"""A checkpoint whose tokenizer and network do not belong together is refused before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from supernets.data.data import TaskData
from supernets.data.text import TextPreprocessor, TextSplit
from supernets.data.vocabulary.tokenizer import train_tokenizer
from supernets.families.bert.config import BertConfig as BertSizes
from supernets.model_settings import ModelSettings
from supernets.open_data import load_data
from supernets.settings import DataSettings

TEXTS = [f"the {animal} number {i} sat" for i in range(20) for animal in ("cat", "dog")]


def opened(
    folder: Path, vocab: int = 80, types: int = 2, task: str | None = None, **data: Any
) -> TaskData:
    """Data of a new checkpoint with a tokenizer of at most 60 entries in a folder."""
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        vocab_size=vocab,
        type_vocab_size=types,
    )
    BertForSequenceClassification(config).save_pretrained(folder / "model")
    rows = [f"{text},a {text},{text.split()[1]}" for text in TEXTS]
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "train.csv").write_text("\n".join(["text,other,label", *rows]))
    settings = DataSettings(name=str(folder / "data"), text_column="text", **data)
    return load_data(settings, ModelSettings(checkpoint=str(folder / "model")), task)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a tokenizer lies already."""
    (tmp_path / "model").mkdir()
    tokenizer = train_tokenizer(TEXTS, 60, BertSizes().inputs)
    TextPreprocessor(tokenizer, 12).save(tmp_path / "model")
    return tmp_path


def test_a_vocabulary_smaller_than_the_embedding_is_fine(folder: Path) -> None:
    data = opened(folder)
    assert len(data.train) + len(data.validation) + len(data.test) == len(TEXTS)


def test_a_tokenizer_without_padding_takes_the_vocabularys(folder: Path) -> None:
    file = folder / "model" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k != "pad_token"}))
    train = opened(folder).train
    assert isinstance(train, TextSplit)
    assert train.pad_id == train_tokenizer(TEXTS, 60, BertSizes().inputs).get_vocab()["[PAD]"]


def test_a_checkpoint_without_a_vocabulary_is_refused(folder: Path) -> None:
    """transformers makes a tokenizer of special tokens alone, to which all texts are the same."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "model" / name).unlink()
    with pytest.raises(ValueError, match="holds no vocabulary of a tokenizer"):
        opened(folder)


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"gives ids up to \d+, but the model's vocabulary has 20 entries"
    ):
        opened(folder, vocab=20)


def test_pairs_for_a_model_of_one_token_type_are_refused(folder: Path) -> None:
    assert opened(folder, types=1)
    with pytest.raises(ValueError, match=r"but the model has only 1 \(type_vocab_size"):
        opened(folder, types=1, text_pair_column="other")


def test_texts_are_cut_where_the_tokenizer_itself_cuts_them(folder: Path) -> None:
    limited(folder, 7)
    data = opened(folder)
    ids = AutoTokenizer.from_pretrained(folder / "model")(TEXTS, truncation=True)["input_ids"]
    assert isinstance(data.train, TextSplit)
    assert {tuple(text[0].tolist()) for text in data.train.texts} <= {tuple(row) for row in ids}
    assert data.source.account.splits["train"].cut == len(data.train)
    assert any("takes 7 tokens of a text (the network 512)" in note for note in data.notes)
    asked = opened(folder, max_length=9)  # what the file states wins
    assert most(asked) > 7
    assert not any("tokens of a text" in note for note in asked.notes)


@pytest.mark.parametrize("limit", ["512", 0, None])
def test_a_limit_that_is_no_number_of_tokens_is_refused(folder: Path, limit: object) -> None:
    limited(folder, limit)
    if limit is None:
        assert opened(folder)  # to transformers, too, it is none
        return
    with pytest.raises(ValueError, match=r"model_max_length in .* must be a number of tokens"):
        opened(folder)


def test_vectors_are_of_as_many_tokens_as_sentence_transformers_takes(folder: Path) -> None:
    limited(folder, 9)
    (folder / "model" / "modules.json").write_text("[]")
    (folder / "model" / "sentence_bert_config.json").write_text('{"max_seq_length": 6}')
    assert most(opened(folder, task="embedding")) == 6
    assert most(opened(folder, task="classification")) == 9
    (folder / "model" / "sentence_bert_config.json").write_text('{"max_seq_length": null}')
    assert most(opened(folder, task="embedding")) == 9
    (folder / "model" / "sentence_bert_config.json").write_text('{"max_seq_length": "many"}')
    with pytest.raises(ValueError, match=r"max_seq_length in .* is 'many'"):
        opened(folder, task="embedding")


def test_texts_are_lowercased_where_sentence_transformers_does_so(folder: Path) -> None:
    """As its `text.lower()` before the tokenizer, and so in what is shipped; not for classes."""
    model = folder / "model"
    content = json.loads((model / "tokenizer.json").read_text())
    (model / "tokenizer.json").write_text(json.dumps({**content, "normalizer": None}))
    (model / "modules.json").write_text("[]")
    given, own = ["The CAT number 3", "a Dog sat"], AutoTokenizer.from_pretrained(model)
    small, large = (own([w(text) for text in given])["input_ids"] for w in (str.lower, str))
    assert small != large
    for lower, task, expected in (
        (False, "embedding", large), (True, "classification", large), (True, "embedding", small),
    ):  # fmt: skip
        (model / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": lower}))
        preprocessor = opened(folder, task=task).preprocessor
        preprocessor.save(folder / "saved")
        shipped = AutoTokenizer.from_pretrained(folder / "saved")
        assert shipped(given)["input_ids"] == expected


def most(data: TaskData) -> int:
    """Tokens of the longest training text."""
    assert data.train.lengths is not None
    return int(data.train.lengths.max())


def test_a_file_out_of_a_folder_names_the_folder(folder: Path) -> None:
    opened(folder)
    file = folder / "model" / "model.safetensors"
    with pytest.raises(ValueError, match=r"lies beside a config.json: give their folder, .*model"):
        load_data(DataSettings(name=str(folder / "data")), ModelSettings(checkpoint=str(file)))


def limited(folder: Path, limit: object) -> None:
    """Give the tokenizer a longest text of its own."""
    file = folder / "model" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": limit}))
