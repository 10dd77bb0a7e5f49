"""Tables of images and tables of rows about them, joined by a column."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from supernets.data.data import TaskData
from supernets.families.vit.config import VitConfig
from supernets.model_settings import ModelSettings
from supernets.open_data import load_data
from supernets.settings import DataSettings

MODEL = ModelSettings.from_scratch(VitConfig(image_size=8, patch_size=4, embed_dim=8, num_heads=2))


def png(value: int) -> bytes:
    """A picture whose every value is `value`."""
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


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
