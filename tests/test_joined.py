"""Tables of images and tables of rows about them, joined by a column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from supernets.data.data import TaskData
from supernets.data.images import ImageSplit, ImageTextPreprocessor, ImageTextSplit, PixelsOf
from supernets.families.vit.config import VitConfig
from supernets.load import load_supernet
from supernets.model_settings import ModelSettings
from supernets.open_data import load_data
from supernets.settings import DataSettings, SpaceSettings
from tests.sample_images import content
from tests.sample_networks import BEIT3

MODEL = ModelSettings.from_scratch(VitConfig(image_size=8, patch_size=4, embed_dim=8, num_heads=2))

IDS = range(1, 21)
"""Of the training images."""


def png(value: int) -> bytes:
    """A picture whose every value is `value`."""
    return content(Image.fromarray(np.full((8, 8, 3), value, np.uint8)))


def write_images(path: Path, names: Sequence[int]) -> None:
    pictures = [{"bytes": png(name), "path": None} for name in names]
    pq.write_table(pa.table({"image_id": list(names), "image": pictures}), path)


def write_rows(path: Path, named: Sequence[int]) -> None:
    """Two questions about every image; the answer is whether its number is even."""
    ids = [name for name in named for _ in range(2)]
    texts = [f"question {number}" for number in range(len(ids))]
    labels = ["even" if name % 2 == 0 else "odd" for name in ids]
    pq.write_table(pa.table({"image_id": ids, "question": texts, "label": labels}), path)


def load(folder: Path, **more: object) -> TaskData:
    given = {"name": str(folder), "join_column": "image_id", "augment": False, "kept_back": 0}
    return load_data(DataSettings.model_validate({**given, **more}), MODEL)


@pytest.fixture(autouse=True)
def folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    for split, first in (("train", 0), ("validation", 40), ("test", 60)):
        write_images(tmp_path / f"{split}-images.parquet", range(first + 20, first, -1))
        write_rows(tmp_path / f"{split}-questions.parquet", range(first + 1, first + 21))
    return tmp_path


def test_every_row_has_its_own_image(folder: Path) -> None:
    data = load(folder)
    assert data.label_names == ("even", "odd")
    for split, first in ((data.train, 1), (data.validation, 41), (data.test, 61)):
        (batch,) = split.batches(40)
        values = (batch.inputs["pixel_values"][:, 0, 0, 0] * 0.5 + 0.5) * 255
        assert values.round().int().tolist() == [first + n // 2 for n in range(40)]
        assert batch.labels.tolist() == [(first + n // 2) % 2 for n in range(40)]
    assert data.source is not None
    assert data.source.unused == {}


def test_one_table_of_images_serves_all_splits(folder: Path) -> None:
    for split in ("train", "validation", "test"):
        (folder / f"{split}-images.parquet").unlink()
    write_images(folder / "images.parquet", range(1, 81))
    data = load(folder)
    assert [len(split.labels) for split in (data.train, data.validation, data.test)] == [40] * 3
    assert data.source.unused == {
        "images that no row names (image_id 21, image_id 22, image_id 23, ...)": 20
    }


def write_files(folder: Path, names: Sequence[int]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.png").write_bytes(png(name))


@pytest.mark.parametrize("ending", ["", ".png"])
def test_rows_find_files_that_are_called_as_they_say(ending: str, folder: Path) -> None:
    """Images of all splits in one folder, but for those of test, which has one of its own."""
    for split, first in (("train", 0), ("validation", 40), ("test", 60)):
        (folder / f"{split}-images.parquet").unlink()
        (folder / f"{split}-questions.parquet").unlink()
        rows = [
            f"{n}{ending},question {n},{'even' if n % 2 == 0 else 'odd'}"
            for n in range(first + 1, first + 21)
        ]
        (folder / f"{split}.csv").write_text("\n".join(["image_id,question,label", *rows]))
    write_files(folder / "images", [*range(2, 21), *range(41, 61), 90])
    write_files(folder / "test" / "images", range(61, 81))
    data = load(folder)
    for part, first in ((data.train, 2), (data.validation, 41), (data.test, 61)):
        (batch,) = part.batches(40)
        values = (batch.inputs["pixel_values"][:, 0, 0, 0] * 0.5 + 0.5) * 255
        assert values.round().int().tolist() == list(range(first, first + 21 - first % 20))
    assert data.source.unused == {
        f"rows of the train split whose image is absent (image_id 1{ending})": 1,
        f"images that no row names (image_id 90{ending})": 1,
    }


def test_absent_images_and_idle_ones_are_counted_and_named(folder: Path) -> None:
    write_images(folder / "train-images.parquet", [*range(3, 21), 30, 31])
    data = load(folder)
    assert len(data.train.labels) == 36
    assert data.source is not None
    assert data.source.unused == {
        "rows of the train split whose image is absent "
        "(image_id 1, image_id 1, image_id 2, ...)": 4,
        "images of the train split that no row names (image_id 30, image_id 31)": 2,
    }


def test_rows_and_images_that_name_none_are_not_joined(folder: Path) -> None:
    for kind, last in (("questions", 39), ("images", 0)):
        path = folder / f"train-{kind}.parquet"
        table = pq.read_table(path)
        names = table["image_id"].to_pylist()
        names[last] = None
        pq.write_table(table.set_column(0, "image_id", pa.array(names, pa.int64())), path)
    data = load(folder)
    assert len(data.train.labels) == 38
    assert data.source is not None
    assert data.source.unused == {
        "rows of the train split without image_id (row 40)": 1,
        "images of the train split without image_id (row 1)": 1,
        "rows of the train split whose image is absent (image_id 20)": 1,
    }


def test_rows_of_an_image_that_cannot_be_read_are_counted_each(folder: Path) -> None:
    pictures = [{"bytes": png(name)[: 20 if name == 7 else None], "path": None} for name in IDS]
    table = pa.table({"image_id": IDS, "image": pictures})
    pq.write_table(table, folder / "train-images.parquet")
    with pytest.raises(ValueError, match=r"row 7 of column 'image' .* of the train split is no"):
        load(folder)
    data = load(folder, skip_broken=True)
    assert len(data.train.labels) == 38
    (line,) = (line for line in data.source.account.lines() if "that cannot be read" in line)
    assert "left out: 2 that cannot be read (2 " in line


def test_ids_of_text_and_of_numbers_are_the_same(folder: Path) -> None:
    table = pq.read_table(folder / "train-questions.parquet")
    texts = pa.array([str(name) for name in table["image_id"].to_pylist()])
    pq.write_table(table.set_column(0, "image_id", texts), folder / "train-questions.parquet")
    assert len(load(folder).train.labels) == 40


def test_what_cannot_be_joined_is_one_line(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"images.parquet has no column 'picture'; there are image"
    ):
        load(folder, join_column="picture")
    write_images(folder / "test-images.parquet", [61, 61])
    with pytest.raises(ValueError, match="two images of the test split have image_id 61"):
        load(folder)
    write_images(folder / "test-images.parquet", [1, 2])
    with pytest.raises(ValueError, match="no row of the test split has an image: image_id is 61, "):
        load(folder)
    (folder / "test-images.parquet").unlink()
    with pytest.raises(ValueError, match="no table of the test split holds images"):
        load(folder)
    with pytest.raises(ValueError, match="only tables of a local folder are joined"):
        load(folder, loader="own:rows")


QUESTIONS = ModelSettings.from_scratch(
    BEIT3.model_copy(update={"image_size": 8, "max_positions": 8})
)


def ask(folder: Path, **more: object) -> TaskData:
    """The same for a model that reads the questions, too."""
    given = {"name": str(folder), "join_column": "image_id", "augment": False, "kept_back": 0}
    return load_data(DataSettings.model_validate({**given, **more}), QUESTIONS)


def test_texts_about_images_stand_beside_them_and_images_are_kept_once(folder: Path) -> None:
    data = ask(folder)
    assert isinstance(data.train, ImageTextSplit)
    assert isinstance(data.preprocessor, ImageTextPreprocessor)
    (images,) = data.train.images
    assert isinstance(images.pixels, PixelsOf)
    assert isinstance(images.pixels.whole, torch.Tensor)
    assert len(images.pixels.whole) == 20
    (batch,) = data.train.part(torch.tensor([5, 39, 0])).batches(8)
    values = (batch.inputs["pixel_values"][:, 0, 0, 0] * 0.5 + 0.5) * 255
    assert values.round().int().tolist() == [3, 20, 1]
    tokenizer = data.preprocessor.texts.tokenizer
    texts = tokenizer.batch_decode(batch.inputs["input_ids"], skip_special_tokens=True)
    texts = [text.replace(" ##", "") for text in texts]
    assert texts == ["question 5", "question 39", "question 0"]
    assert batch.labels.tolist() == [1, 0, 1]
    assert data.source.account.shared == {}
    smaller = data.train.seen_by({"resolution": 4}).images[0].pixels[torch.tensor([0, 1])]
    assert smaller.shape == (2, 3, 4, 4)


def test_rows_set_aside_are_of_images_of_their_own(folder: Path) -> None:
    (folder / "validation-questions.parquet").unlink()
    (folder / "validation-images.parquet").unlink()
    data = ask(folder, holdout=0.2)
    found = []
    for split in (data.train, data.validation):
        (batch,) = split.batches(64)
        pixels = batch.inputs["pixel_values"][:, 0, 0, 0]
        assert (pixels.unique(return_counts=True)[1] == 2).all()
        found.append(set(pixels.tolist()))
    assert not found[0] & found[1]
    assert [len(values) for values in found] == [16, 4]


def test_images_without_texts_serve_a_model_of_both(folder: Path) -> None:
    for split in ("train", "validation", "test"):
        path = folder / f"{split}-questions.parquet"
        pq.write_table(pq.read_table(path).drop_columns("question"), path)
    data = ask(folder)
    assert isinstance(data.train, ImageSplit)
    network = load_supernet(QUESTIONS, data, 0).network
    assert network.config.inputs == ("pixel_values",)


def test_texts_for_a_model_of_images_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"data.text_column: the model reads images alone"):
        load(folder, text_column="question")
    with pytest.raises(ValueError, match="give at most 8"):
        ask(folder, max_length=9)


def test_a_text_about_two_images(tmp_path: Path) -> None:
    rows = 40
    pictures = [{"bytes": png(number), "path": None} for number in range(rows)]
    columns = {
        "left": pictures,
        "right": pictures[::-1],
        "sentence": [f"statement {n}" for n in range(rows)],
        "label": ["yes", "no"] * (rows // 2),
    }
    (tmp_path / "pairs").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "pairs" / "train.parquet")
    settings = DataSettings(
        name=str(tmp_path / "pairs"), image_column=("left", "right"), augment=False, kept_back=0
    )
    data = load_data(settings, QUESTIONS)
    batch = next(data.train.batches(8))
    values = ((batch.inputs["pixel_values"][:, :, 0, 0, 0] * 0.5 + 0.5) * 255).round()
    assert values.sum(dim=1).tolist() == [rows - 1] * 8
    network = load_supernet(QUESTIONS, data, 0).network
    assert network(**batch.inputs).shape == (8, 2)
    with pytest.raises(ValueError, match="two columns of images, but no text"):
        load_data(settings, MODEL)


@pytest.mark.parametrize("length", [4, 5, 8])
def test_texts_are_cut_as_the_shipped_tokenizer_cuts_them(
    length: int, folder: Path, tmp_path: Path
) -> None:
    data = ask(folder)
    assert isinstance(data.preprocessor, ImageTextPreprocessor)
    assert isinstance(data.train, ImageTextSplit)
    architecture = {"text_length": length, "resolution": 4}
    (tmp_path / "shipped").mkdir()
    data.preprocessor.save(tmp_path / "shipped", architecture)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "shipped")
    texts = [f"question {number}" for number in range(40)]
    wanted = tokenizer(texts, truncation=True)["input_ids"]
    assert max(map(len, wanted)) == min(length, int(data.train.lengths.max()))
    seen = data.train.seen_by(architecture)
    assert [text[0].tolist() for text in seen.texts.texts] == wanted
    assert seen.images[0].preprocessor.image_size == 4
    (batch,) = data.train.batches(64)
    own = data.train.rewritten(batch, architecture).inputs
    rows = zip(own["input_ids"], own["attention_mask"], strict=True)
    assert [ids[mask > 0].tolist() for ids, mask in rows] == wanted
    network = load_supernet(QUESTIONS, data, 0).network
    space = network.space(SpaceSettings.model_validate({"text_length": (4, 8)}))
    assert space.genes[space.column["text_length"]].choices == (4, 8)
    network.activate({"text_length": 4})
    assert network.example_inputs(1, 8)["input_ids"].shape == (1, 4)


def test_lengths_that_hold_no_text_are_refused(folder: Path) -> None:
    network = load_supernet(QUESTIONS, ask(folder), 0).network
    with pytest.raises(ValueError, match=r"space.text_length: 3 tokens hold little more than"):
        network.space(SpaceSettings.model_validate({"text_length": (3, 8)}))
    alone = load_supernet(QUESTIONS, load(folder), 0).network
    with pytest.raises(ValueError, match=r"space.text_length: fixed in a network like this"):
        alone.space(SpaceSettings.model_validate({"text_length": (4, 8)}))
