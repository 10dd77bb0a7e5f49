"""BEiT-3 as it is published: bare weights, the half for texts, other heads, other resolutions."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from supernets.data.image_preprocessor import ImagePreprocessor, read_preprocessor
from supernets.data.images import ImageTextPreprocessor
from supernets.data.text import TextPreprocessor
from supernets.families.beit3.config import Beit3Config
from supernets.families.beit3.hugging_face import HUGGING_FACE
from supernets.families.hugging_face import CheckpointError
from supernets.load import load_supernet, supernet
from supernets.model_settings import ModelSettings
from supernets.pretrained.checkpoint import open_checkpoint
from supernets.pretrained.sentencepiece import tokenizer_of
from supernets.pretrained.weights import checkpoint_sizes
from supernets.settings import SpaceSettings
from tests.family_models import config_of, disturbed, inputs_for
from tests.plain_beit3 import (
    BEiT3ForImageClassification,
    BEiT3ForVisualQuestionAnswering,
    BEiT3ForVisualReasoning,
    beit3,
    beit3_pairs,
    beit3_questions,
)
from tests.plain_beit3 import settings as in_their_words
from tests.sample_supernets import build
from tests.test_checkpoints_hf import load, task

BASE_LIKE = {"encoder_embed_dim": 128, "encoder_attention_heads": 2, "encoder_layers": 2}
DOCUMENT = (Path(__file__).parents[1] / "docs" / "beit3.md").read_text()


def both_halves() -> BEiT3ForImageClassification:
    model = disturbed(lambda: beit3(**BASE_LIKE, vocab_size=30))
    assert isinstance(model, BEiT3ForImageClassification)
    return model


def state(model: BEiT3ForImageClassification) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def test_a_published_pickle_opens_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = both_halves()
    torch.save({"model": state(model)}, tmp_path / "beit3.pth")
    monkeypatch.chdir(tmp_path)
    exec(blocks("python")[0], {})  # noqa: S102 - the page's own lines
    start = load(tmp_path / "model.safetensors", size=16)
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        found, expected = start.network(pixels), model(pixels).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    of_texts = sum(".B." in name or "text_embed" in name for name in model.state_dict())
    assert start.notes[1:] == (
        f"model.checkpoint: {of_texts} tensors of the half that reads texts are left out, such as "
        "beit3.encoder.embed_positions.B.weight",
    )
    assert "no names" in start.notes[0]


def test_the_pages_files_of_settings_are_read(tmp_path: Path) -> None:
    *preparations, config = blocks("json")
    for preparation, size in zip(preparations, (224, 480), strict=True):
        (tmp_path / "preprocessor_config.json").write_text(preparation)
        preprocessor = read_preprocessor(tmp_path, None)
        assert (preprocessor.image_size, preprocessor.notes) == (size, ())
    (tmp_path / "config.json").write_text(config)
    sizes = checkpoint_sizes(open_checkpoint(str(tmp_path)))
    assert (sizes.family, json.loads(config)["img_size"]) == ("beit3", 224)
    (tmp_path / "config.json").write_text('{"model_type": "beit3"}')
    assert checkpoint_sizes(open_checkpoint(str(tmp_path))) == sizes


def asked(count: int) -> Any:
    """Data of texts about so many images, of which nothing but the preprocessor is looked at."""
    tokenizer: Any = None
    pixels, texts = ImagePreprocessor.plain(16), TextPreprocessor(tokenizer, 20)
    given = task()
    return replace(given, preprocessor=ImageTextPreprocessor(pixels, texts, count))


@pytest.mark.parametrize(
    ("made", "count", "names"),
    [
        (beit3_questions, 1, {"pooler.norm", "pooler.dense", "head.0", "head.1"}),
        (beit3_pairs, 2, {"head.norm1", "encoder.layer_norm.A", "encoder.layer_norm.B"}),
    ],
)
def test_weights_of_texts_open_alone_and_in_another_tasks_place(
    made: Callable[..., Any], count: int, names: set[str], tmp_path: Path
) -> None:
    model = disturbed(lambda: made(**BASE_LIKE))
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, file)
    settings = ModelSettings(checkpoint=str(file))
    start = load_supernet(settings, asked(count), 0)
    inputs = inputs_for(start.network)
    with torch.no_grad():
        torch.testing.assert_close(
            start.network(**inputs), model(**inputs).logits, atol=1e-5, rtol=1e-5
        )
    assert all("labels have no names" in note for note in start.notes)
    other = load_supernet(settings, asked(3 - count), 0)
    assert other.network.config.inputs == start.network.config.inputs
    assert other.notes[0] == "model.checkpoint: a new classifier is trained"
    with pytest.raises(CheckpointError, match="the data asks for BEiT3ForVisual"):
        load_supernet(settings.model_copy(update={"head": "keep"}), asked(3 - count), 0)
    alone = load(file, size=16)
    assert alone.network.config.inputs == ("pixel_values",)
    assert any("tensors of the half that reads texts are left out" in n for n in alone.notes)
    bare = {n: t.clone() for n, t in model.state_dict().items() if "beit3.encoder.layers" in n}
    save_file(
        {**bare, **{n: t.clone() for n, t in model.state_dict().items() if "embed" in n}}, file
    )
    fresh = load_supernet(settings, asked(count), 0).notes
    for name in names:
        assert f"model.checkpoint: it has no {name}; a new one is trained" in fresh


def test_a_head_that_one_half_alone_has_looks_at_both() -> None:
    """Image tokens with one head, texts with four: keys and values of images have four, too."""
    network = build(config_of("beit3-questions"))
    genes = {f"blocks.{i}.image.attention.num_heads": 1 for i in range(3)}
    network.activate(genes)
    plain = network.extract()
    shapes = {n: tuple(t.shape) for n, t in plain.state_dict().items() if "blocks.0.image" in n}
    assert shapes["blocks.0.image.attention.query.weight"] == (4, 16)
    assert shapes["blocks.0.image.attention.key.weight"] == (16, 16)
    assert shapes["blocks.0.image.attention.out.weight"] == (16, 4)
    plain(**inputs_for(network)).sum().backward()
    # Texts alone have a last head, and with it they read images.
    value = dict(plain.named_parameters())["blocks.0.image.attention.value.weight"]
    assert value.grad is not None
    assert value.grad[12:].abs().sum() > 0


def other_heads() -> dict[str, dict[str, Tensor]]:
    """Heads of the published tasks in place of a classifier of images."""
    vector, matrix = torch.ones(8), torch.ones(8, 8)
    return {
        "pretraining": {"mlm_head.weight": matrix, "beit3.encoder.layer_norm.A.weight": vector},
        "questions": {
            "pooler.dense.weight": matrix,
            "head.0.weight": matrix.clone(),
            "head.1.bias": vector,
        },
        "pairs": {"head.dense1.weight": matrix, "head.norm1.weight": vector},
        "retrieval": {"vision_head.weight": matrix, "logit_scale": torch.ones(())},
    }


@pytest.mark.parametrize("task", ["pretraining", "questions", "pairs", "retrieval"])
def test_another_tasks_checkpoint_gets_a_new_classifier(task: str, tmp_path: Path) -> None:
    model = both_halves()
    proper = {n: t for n, t in state(model).items() if n.startswith("beit3.")}
    save_file({**proper, **other_heads()[task]}, tmp_path / "model.safetensors")
    start = load(tmp_path / "model.safetensors", size=16)
    assert start.notes[:2] == (
        "model.checkpoint: a new classifier is trained",
        "model.checkpoint: it has no fc_norm; a new one is trained",
    )
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        tokens = model.beit3.encoder(model.beit3.vision_embed(pixels))
        expected = F.layer_norm(tokens[:, 1:].mean(dim=1), (128,), eps=1e-5)
        found = start.network.features(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_positions_are_interpolated_to_another_resolution(tmp_path: Path) -> None:
    model = both_halves()
    save_file(state(model), tmp_path / "model.safetensors")
    network = load(tmp_path / "model.safetensors", size=24).network
    table = model.state_dict()["beit3.encoder.embed_positions.A.weight"][2:]
    square = table[1:].T.reshape(1, 128, 4, 4)
    resized = F.interpolate(square, size=(6, 6), mode="bicubic", align_corners=False)
    own = network.get_parameter("pos_embed")[0]
    torch.testing.assert_close(own, torch.cat([table[:1], resized[0].flatten(1).T]))


def test_weights_that_do_not_tell_their_heads_are_refused(tmp_path: Path) -> None:
    save_file(state(beit3()), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="16 wide is neither base nor large"):
        load(tmp_path / "model.safetensors", size=16)


@pytest.mark.parametrize(
    ("field", "value"),
    [("subln", False), ("deepnorm", True), ("encoder_layers", 4), ("moe_freq", 2)],
)
def test_what_is_no_published_beit3_is_refused(field: str, value: object, tmp_path: Path) -> None:
    beit3().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, field: value}))
    expected = "has no weights for" if field == "encoder_layers" else f"has {field} {value!r}"
    with pytest.raises(CheckpointError, match=expected):
        load(tmp_path)


def field(number: int, kind: int, content: bytes) -> bytes:
    """A field of a protobuf message; contents of wire type 2 carry their length."""
    size = bytes([len(content)]) if kind == 2 else b""
    return bytes([number << 3 | kind]) + size + content


def sentencepiece_model(pieces: Mapping[str, float]) -> bytes:
    """A model as SentencePiece writes it, of pieces of fewer than 100 bytes; kinds are ignored."""
    entries = {"<unk>": 0.0, "<s>": 0.0, "</s>": 0.0, **pieces}
    messages = (
        field(1, 2, text.encode()) + field(2, 5, struct.pack("<f", score)) + field(3, 0, b"\x01")
        for text, score in entries.items()
    )
    trainer = field(2, 2, field(4, 0, b"\xac\x02"))
    return b"".join(field(1, 2, message) for message in messages) + trainer


def test_pieces_are_numbered_as_xlm_roberta_numbers_them(tmp_path: Path) -> None:
    pieces = {"\u2581what": -2.0, "\u2581": -3.0, "wh": -2.5, "at": -2.5, "?": -4.0, "a": -9.0}
    (tmp_path / "beit3.spm").write_bytes(sentencepiece_model(pieces))
    tokenizer = tokenizer_of(tmp_path)
    # <s> <pad> </s> <unk>, then the file's own from 4 on; what scores best is taken.
    assert tokenizer("what at?z")["input_ids"] == [0, 4, 5, 7, 8, 3, 2]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, len(tokenizer)) == (1, 10, 11)


SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16)}
"""Width, layers and heads as published, beside neurons four times as wide."""


@pytest.mark.parametrize(
    ("size", "make", "pixels", "labels", "published"),
    [
        ("base", BEiT3ForImageClassification, 224, 1000, 87),
        ("base", BEiT3ForVisualQuestionAnswering, 480, 3129, 228),
        ("base", BEiT3ForVisualReasoning, 224, 2, 226),
        ("large", BEiT3ForImageClassification, 224, 1000, 305),
        ("large", BEiT3ForVisualQuestionAnswering, 480, 3129, 683),
        ("large", BEiT3ForVisualReasoning, 224, 2, 681),
    ],
)
def test_published_sizes_have_a_place_for_every_tensor(
    size: str, make: Callable[..., Any], pixels: int, labels: int, published: int
) -> None:
    """Millions of parameters: https://github.com/microsoft/unilm/tree/master/beit3, README.md."""
    width, layers, heads = SIZES[size]
    alone = make is BEiT3ForImageClassification
    sizes = {
        "encoder_embed_dim": width, "encoder_layers": layers, "encoder_attention_heads": heads,
        "encoder_ffn_embed_dim": 4 * width, "img_size": pixels, "patch_size": 16,
        "vocab_size": 0 if alone else 64010, "max_source_positions": 1024, "num_labels": labels,
    }  # fmt: skip
    with torch.device("meta"):
        theirs = make(in_their_words(**sizes)).state_dict()
        assert round(sum(tensor.numel() for tensor in theirs.values()) / 1e6) == published
        assert HUGGING_FACE.bare is not None
        own = HUGGING_FACE.bare.sizes(theirs, {})
        assert isinstance(own, Beit3Config)
        network = supernet(own, labels)
    assert (own.embed_dim, own.depth, own.num_heads) == SIZES[size]
    assert own.image_size == pixels
    ready = HUGGING_FACE.prepare(
        {name.removeprefix("beit3."): tensor for name, tensor in theirs.items()}, own, own
    )
    ours = network.state_dict()
    renamed = HUGGING_FACE.renaming(name for name in ours if not name.startswith("head."))
    assert {ours[name].shape == ready[other].shape for name, other in renamed.items()} == {True}
    last = HUGGING_FACE.variant_of(own).heads[0]
    assert ours.keys() - renamed == {"head.weight", "head.bias"}
    assert ready.keys() - renamed.values() == {f"{last}.weight", f"{last}.bias"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<html>", "is no SentencePiece model of XLM-RoBERTa's kind"),
        (sentencepiece_model({"a": -1.0})[:-3], "it ends early"),
        (b"", "its first pieces are not <unk>, <s>, </s>"),
        (field(1, 2, field(1, 0, b"\x05")), "a piece's text or score is a number of another kind"),
        (None, r"has no tokenizer, which texts need; put its tokenizer.json there, or its"),
    ],
)
def test_a_missing_or_damaged_tokenizer_is_one_line(
    content: bytes | None, told: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "sentencepiece.bpe.model").write_bytes(content)
    with pytest.raises(CheckpointError, match=told) as caught:
        tokenizer_of(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("asks", "layers"), [("image", 72), ("question", 140), ("pair", 144)])
def test_the_papers_space_is_every_halfs(asks: str, layers: int) -> None:
    sizes = {"image_size": 224, "embed_dim": 768, "depth": 12, "num_heads": 12, "hidden_dim": 3072}
    config = Beit3Config.model_validate({**sizes, "asks": asks})
    with torch.device("meta"):
        space = supernet(config, 3129).space(SpaceSettings(preset="simqnas/beit3-base"))
    genes = {gene.name: gene.choices for gene in space.genes}
    precise = [name for name, c in genes.items() if name.endswith(".precision") and len(c) == 2]
    assert len(precise) == layers
    halves = [""] if asks == "image" else [".image", ".text"]
    for half in halves:
        assert genes[f"blocks.0{half}.attention.num_heads"] == (6, 8, 10, 12)
        assert genes[f"blocks.0{half}.mlp.hidden_dim"] == (2048, 2560, 3072)
    assert genes["depth"] == (11, 12)
    assert ("blocks.11.text.mlp.hidden_dim" in genes) == (asks == "pair")
