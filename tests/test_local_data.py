"""Local files as tables: what makes which split, what a cell holds, which classes there are."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from PIL import Image

from supernets.data.hf_datasets import Tables, open_tables
from supernets.data.layout import split_of
from supernets.data.targets.targets import counts
from supernets.settings import DataSettings

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def opened(place: Path, kind: str = "text", **settings: object) -> Tables:
    """The data set, every row of it accounted for."""
    tables = open_tables(DataSettings.model_validate({"name": str(place), **settings}), kind)
    for split in SPLITS:
        table = getattr(tables, split)
        assert table.found == len(table.rows) + sum(table.left_out.values())
    return tables


def all_rows(tables: Tables, column: str) -> list[Any]:
    return [value for split in SPLITS for value in getattr(tables, split).column(column)]


def sizes(tables: Tables) -> list[int]:
    return [len(getattr(tables, split).rows) for split in SPLITS]


def csv_of(labels: list[str], delimiter: str = ",", n: int = 30) -> str:
    rows = [f"some words {i}{delimiter}{labels[i % len(labels)]}" for i in range(n)]
    return "\n".join([f"text{delimiter}label", *rows]) + "\n"


def draw(path: Path, n: int = 1) -> None:
    """Write `n` images of noise, the first at this path and the others beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(abs(hash(str(path))) % 2**32)
    for i in range(n):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        place = path if not i else path.with_name(f"{path.stem} {i}{path.suffix}")
        Image.fromarray(pixels).save(place)


# Labels


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["-1", "0", "1"], ("-1", "0", "1")),
        (["NA", "EU", "US"], ("EU", "NA", "US")),
        (["None", "null", "nan", "N/A"], ("N/A", "None", "nan", "null")),
        (["1.0", "0.0"], ("0", "1")),
        (["10", "9", "-2"], ("-2", "9", "10")),
        (["01", "2"], ("01", "2")),
        (["True", "False"], ("False", "True")),
        (["yes ", " yes", "no"], ("no", "yes")),
        (["0.5", "1.0", "1.5"], ("0.5", "1.0", "1.5")),
        (["日本", "Ωmega"], ("Ωmega", "日本")),
    ],
)
def test_text_of_a_label_column_is_what_it_says(
    cells: list[str], names: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_text(csv_of(cells), encoding="utf-8")
    tables = opened(tmp_path)
    assert tables.label_names == names
    assert sum(sizes(tables)) == 30


@pytest.mark.parametrize(
    ("values", "names", "missing"),
    [
        ([-1, 0, 1], ("-1", "0", "1"), 0),
        ([0.0, 1.0, None], ("0", "1"), 10),
        ([0, float("nan"), 1], ("0", "1"), 10),
        (["a", "b", None], ("a", "b"), 10),
        (["a", "b", ""], ("a", "b"), 10),
        ([True, False], ("False", "True"), 0),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_missing_labels_are_left_out_and_counted(
    values: list[object], names: tuple[str, ...], missing: int, suffix: str, tmp_path: Path
) -> None:
    rows = [{"text": f"words {i}", "label": values[i % len(values)]} for i in range(30)]
    place = tmp_path / f"train.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), place)
    elif suffix == "json":
        place.write_text(json.dumps(rows))
    else:
        place.write_text("\n".join(map(json.dumps, rows)))
    tables = opened(tmp_path)
    assert tables.label_names == names
    assert sum(sizes(tables)) == 30 - missing
    assert tables.train.left_out == ({"without a label": missing} if missing else {})


@pytest.mark.parametrize("place", ["/no/where", "a/b/c", "data/train.csv", "rows.jsonl.gz"])
def test_a_path_that_is_not_there_is_not_looked_for_elsewhere(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supernets.data.hf_datasets.load_dataset", None)  # nothing is asked of it
    with pytest.raises(ValueError, match="there is no file or folder"):
        opened(Path(place))


@pytest.mark.parametrize("shown", [True, False])
def test_progress_bars_of_the_process_stay_as_they_were(shown: bool, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(csv_of(["a", "b"]))
    before = not datasets.are_progress_bars_disabled()
    (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
    try:
        open_tables(DataSettings(name=str(tmp_path)), "text")
        assert datasets.are_progress_bars_disabled() is not shown
    finally:
        (datasets.enable_progress_bars if before else datasets.disable_progress_bars)()


def test_an_empty_split_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_of(["a", "b"]))
    (tmp_path / "validation.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match=r"the validation split is empty; give it rows, or leave"):
        opened(tmp_path)


SPELLED = [" cat", "cat ", "caf\u00e9", "cafe\u0301"]
"""Two classes, each spelled in two ways."""


@pytest.mark.parametrize("source", ["csv", "folders", "classes", "lists", "lists of classes"])
def test_blanks_and_accents_part_no_classes_wherever_labels_stand(
    source: str, tmp_path: Path
) -> None:
    task, kind = ("multi-label" if "lists" in source else None), "text"
    texts = [f"words {i}" for i in range(40)]
    labels: list[Any] = [SPELLED[i % 4] for i in range(40)]
    if source == "csv":
        (tmp_path / "train.csv").write_text(csv_of(SPELLED, n=40), encoding="utf-8")
    elif source == "folders":
        kind = "image"
        for name in SPELLED:
            draw(tmp_path / "train" / name / "0.png", 10)
    else:
        feature: Any = ClassLabel(names=SPELLED) if "classes" in source else Value("string")
        if "lists" in source:
            labels, feature = [[label, ""] for label in labels], List(feature)
            labels = [one[:1] for one in labels] if "classes" in source else labels
        rows = {"text": texts, "label": labels}
        features = Features({"text": Value("string"), "label": feature})
        Dataset.from_dict(rows, features=features).save_to_disk(tmp_path)
    tables = open_tables(DataSettings(name=str(tmp_path)), kind, task)
    assert sorted(tables.label_names) == ["caf\u00e9", "cat"]
    labels_of = [getattr(tables, split).labels for split in SPLITS]
    counted = counts(np.concatenate(labels_of), tables.label_names)
    assert counted == {"caf\u00e9": 20, "cat": 20}


def test_numbers_and_texts_in_one_column_are_labels(tmp_path: Path) -> None:
    rows = [{"text": f"t {i}", "label": [1, "b"][i % 2]} for i in range(20)]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    assert opened(tmp_path).label_names == ("1", "b")


def test_category_columns_are_labels(tmp_path: Path) -> None:
    kinds = pa.DictionaryArray.from_arrays([0, 1] * 10, ["b", "a", "never"])
    table = pa.table({"text": [f"t {i}" for i in range(20)], "label": kinds})
    pq.write_table(table, tmp_path / "train.parquet")
    assert opened(tmp_path).label_names == ("a", "b")


def test_a_whole_split_of_minus_one_has_no_labels_though_minus_one_is_a_class(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.csv").write_text(csv_of(["-1", "1"]))
    (tmp_path / "test.csv").write_text(csv_of(["-1"], n=7))
    tables = opened(tmp_path)
    assert tables.label_names == ("-1", "1")
    assert tables.unused == {"rows of the test split, which has no labels": 7}


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        (
            ["Pos", "neg"],
            ["pos ", "NEG"],
            "label 'NEG' of the test split (6 rows) is taken as 'neg'",
        ),
        (["no_score", "x"], ["no score", "X"], "'no score' of the test split (6 rows)"),
        (["Pos", "pos"], ["pos", "Pos"], "in capitals, blanks or invisible signs alone and are 2"),
        (["a", "a\u200b"], ["a", "a\u200b"], "blanks or invisible signs alone and are 2 classes"),
    ],
)
def test_names_that_differ_in_capitals_or_blanks(
    train: list[str], test: list[str], told: str, tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_text(csv_of(train))
    (tmp_path / "test.csv").write_text(csv_of(test, n=12))
    tables = opened(tmp_path)
    assert sorted(tables.label_names) == sorted(train)
    assert np.bincount(tables.test.labels).tolist() == [6, 6]
    assert told in "\n".join(tables.notes)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([["a"], ["a", "b"]], "holds lists (several labels a row)"),
        ([{"id": 1}, {"id": 2}], "holds records of id"),
        ([i / 7 for i in range(60)], "60 different numbers with fractions in 60 rows"),
        ([None], "has no label in train"),
    ],
)
def test_what_is_no_class_is_refused_with_the_reason(
    labels: list[object], told: str, tmp_path: Path
) -> None:
    rows = [{"text": f"t {i}", "label": labels[i % len(labels)]} for i in range(60)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"data.label_column: 'label'") as caught:
        open_tables(DataSettings(name=str(tmp_path)), "text", "classification")
    assert told in str(caught.value)


# Cells and files


def test_texts_that_look_missing_are_texts_and_missing_ones_are_counted(tmp_path: Path) -> None:
    odd = ["null", "NA", "None", "nan", "", "N/A"]
    rows = [f"{odd[i % 6]},{i % 2}" for i in range(60)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]))
    tables = opened(tmp_path)
    assert set(all_rows(tables, "text")) == {"null", "NA", "None", "nan", "N/A"}
    assert tables.train.left_out == {"without a text": 10}
    assert sum(sizes(tables)) == 50


def test_an_empty_text_of_json_is_a_text_and_a_null_is_none(tmp_path: Path) -> None:
    cells = ["", None, "word"]
    rows = [{"text": cells[i % 3], "label": i % 2} for i in range(30)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tables = opened(tmp_path)
    assert set(all_rows(tables, "text")) == {"", "word"}
    assert tables.train.left_out == {"without a text": 10}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-mark", "utf-32"])
def test_encodings_that_tell_themselves(encoding: str, tmp_path: Path) -> None:
    text = csv_of(["höflich", "unhöflich"])
    marked = encoding == "utf-16-be-mark"
    content = b"\xfe\xff" + text.encode("utf-16-be") if marked else text.encode(encoding)
    (tmp_path / "train.csv").write_bytes(content)
    assert opened(tmp_path).label_names == ("höflich", "unhöflich")


@pytest.mark.parametrize(
    ("encoding", "word"), [("latin-1", "höflich"), ("cp1252", "“ja”"), ("shift_jis", "日本語")]
)
def test_other_encodings_are_named_or_refused_with_the_byte(
    encoding: str, word: str, tmp_path: Path
) -> None:
    text = csv_of([word, "x"])
    (tmp_path / "train.csv").write_bytes(text.encode(encoding))
    place = next(i for i, letter in enumerate(text) if not letter.isascii())
    with pytest.raises(ValueError, match=rf"train.csv is not .* utf-8 \(byte {place} .*encoding: "):
        opened(tmp_path)
    assert word in opened(tmp_path, encoding=encoding).label_names


def test_text_without_a_mark_in_two_bytes_a_character_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(csv_of(["a", "b"]).encode("utf-16-le"))
    with pytest.raises(ValueError, match="is not written in utf-8"):
        opened(tmp_path)
    assert opened(tmp_path, encoding="utf-16-le").label_names == ("a", "b")
    with pytest.raises(ValueError, match="Python knows no encoding 'klingon'"):
        DataSettings(name="x", encoding="klingon")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_of(["a", "b"], delimiter))
    assert opened(tmp_path).label_names == ("a", "b")


def test_quotes_hold_delimiters_lines_and_quotes(tmp_path: Path) -> None:
    cell = 'he said ""no"", then\nleft'
    rows = [f'"{cell} {i}",{i % 2}' for i in range(20)]
    (tmp_path / "train.csv").write_text("\r\n".join(["text,label", *rows]), newline="")
    texts = all_rows(opened(tmp_path), "text")
    assert len(texts) == 20
    assert f'he said "no", then\nleft {0}' in texts


def test_quotes_of_a_table_by_tabs_may_be_text(tmp_path: Path) -> None:
    rows = [f'"open {i}\t{i % 2}' for i in range(20)]
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *rows]))
    assert '"open 3' in all_rows(opened(tmp_path), "text")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("train.csv", "text,label\na,b,c\n", "line 2: 3 cells, but the first line names 2"),
        ("train.csv", "text,label\na,1\nb\n", "line 3: 1 cells"),
        ("train.csv", 'text,label\n"a,1\nb,0\n', "a quote is not closed"),
        ("train.csv", "", "is empty"),
        ("train.csv", "text,text,label\n", "two columns have one name"),
        ("train.jsonl", '{"text": "a"}\n{"text": \n', "is no JSON .line 2"),
        ("train.json", "[1, 2]", "is no table"),
        ("train.json", "[" * 100_000, "is no JSON"),
        ("train.jsonl", '{"text": "\\ud83d", "label": "a"}', "half a character"),
        ("train.csv.gz", "no gzip", "cannot be unpacked"),
        ("train.parquet", "no parquet", "cannot be read as parquet"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(
    name: str, content: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=told) as caught:
        opened(tmp_path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_packed_file_damaged_behind_its_header_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(b"text,label")[:10] + b"\2" * 9)
    with pytest.raises(ValueError, match=r"train\.csv\.gz cannot be unpacked \(.*; pack it again"):
        opened(tmp_path)


def test_columns_are_found_in_any_capitals_and_with_blanks(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_of(["a", "b"]).replace("text,label", " Text , LABEL"))
    (tmp_path / "test.csv").write_text(csv_of(["a", "b"], n=8).replace("text,label", "text,Label"))
    tables = opened(tmp_path)
    assert tables.inputs == ("Text",)
    assert len(tables.test.rows) == 8
    assert opened(tmp_path, text_column="text", label_column="label").inputs == ("Text",)


def test_files_of_one_split_must_have_the_same_columns(tmp_path: Path) -> None:
    (tmp_path / "train-1.csv").write_text(csv_of(["a", "b"]))
    (tmp_path / "train-2.csv").write_text(csv_of(["a", "b"]))
    assert sum(sizes(opened(tmp_path))) == 60
    (tmp_path / "train-3.csv").write_text("text,kind\na,b\n")
    with pytest.raises(
        ValueError, match=r"has the columns text, label, but .*train-3.csv text, kind"
    ):
        opened(tmp_path)


def test_one_table_in_two_formats_is_not_read_twice(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_of(["a", "b"]))
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": "b"}')
    with pytest.raises(ValueError, match="look like one table in two formats"):
        opened(tmp_path)


# Layouts


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("train-00000-of-00002", "train"),
        ("my_train", "train"),
        ("train2017", "train"),
        ("DEV", "validation"),
        ("val", "validation"),
        ("validation_matched", "validation"),
        ("Test set", "test"),
        ("eval", "eval"),
        ("trainer", None),
        ("contest", None),
        ("train_test", None),
        ("éval", None),
    ],
)
def test_split_names_are_whole_words_in_any_capitals(name: str, split: str | None) -> None:
    assert split_of(name, ()) == split


@pytest.mark.parametrize("name", ["data.csv", "data [v2].csv", "dätä 1.CSV", "data.csv.gz"])
def test_a_file_stands_in_for_a_folder(name: str, tmp_path: Path) -> None:
    content = csv_of(["a", "b"]).encode()
    place = tmp_path / name
    place.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert sum(sizes(opened(place))) == 30
    assert sum(sizes(opened(tmp_path))) == 30


@pytest.mark.parametrize(
    "places",
    [
        ("Train.csv", "VALID.csv", "testing.csv"),
        ("train/a.csv", "dev/a.csv", "Test/a.csv"),
        ("data/train-00000-of-00001.csv", "data/val-0.csv", "data/test-0.csv"),
        ("x_train.csv", "x_dev.csv", "x_test.csv"),
        ("reviews.csv", "validation.csv", "reviews_test.csv"),
        ("[a]/train.csv", "[a]/eval.csv", "[a]/test.csv"),
        ("train.csv", "dev.csv", "eval.csv"),
    ],
)
def test_splits_are_told_by_names_of_files_and_folders(
    places: tuple[str, str, str], tmp_path: Path
) -> None:
    for place, n in zip(places, (30, 12, 8), strict=True):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(csv_of(["a", "b"], n=n))
    assert sizes(opened(tmp_path)) == [30, 12, 8]


def test_a_split_may_be_asked_for_by_any_name(tmp_path: Path) -> None:
    for name, n in (("fold1", 30), ("fold2", 12), ("fold3", 8)):
        (tmp_path / f"{name}.csv").write_text(csv_of(["a", "b"], n=n))
    asked = {"train_split": "fold1", "validation_split": "fold2", "test_split": "fold3"}
    assert sizes(opened(tmp_path, **asked)) == [30, 12, 8]


def test_what_lies_beside_tables_is_counted_as_unused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_of(["a", "b"]))
    (tmp_path / "extra.csv").write_text("x,y\n1,2\n")
    (tmp_path / "README.md").write_text("# about")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "config.json").write_text("{}")
    draw(tmp_path / "logo.png")
    tables = opened(tmp_path)
    assert tables.unused == {
        "tables that belong to no split (extra.csv)": 1,
        "files not understood (README.md, config.json)": 2,
        "hidden files (.DS_Store)": 1,
        "images (logo.png)": 1,
    }


def test_the_words_train_and_test_in_names_of_images_make_no_split(tmp_path: Path) -> None:
    draw(tmp_path / "cat" / "model train.png", 10)
    draw(tmp_path / "dog" / "test tube.png", 10)
    tables = opened(tmp_path, "image")
    assert tables.label_names == ("cat", "dog")
    assert sum(sizes(tables)) == 20


@pytest.mark.parametrize("names", [("bus", "train"), ("test", "train", "validation", "x")])
def test_a_class_may_be_called_like_a_split(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        draw(tmp_path / name / "0.png", 6)
    tables = opened(tmp_path, "image")
    assert tables.label_names == names
    assert sum(sizes(tables)) == 6 * len(names)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "TEST"),
        ("data [v2]/train", "data [v2]/test"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train", "val/val"),
    ],
)
def test_splits_of_image_folders(train: str, test: str, tmp_path: Path) -> None:
    for name in ("cat", "train"):
        draw(tmp_path / train / name / "0.PNG", 10)
        draw(tmp_path / test / name / "0.png", 3)
    tables = opened(tmp_path, "image")
    assert tables.label_names == ("cat", "train")
    given = tables.validation if "val" in test else tables.test
    assert len(given.rows) == 6
    assert sum(sizes(tables)) == 26


def test_flat_test_images_have_no_label_and_are_counted(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / "train" / name / "0.png", 10)
    draw(tmp_path / "test" / "0.png", 7)
    draw(tmp_path / "extra" / "0.png", 2)
    draw(tmp_path / "train" / "loose.png")
    (tmp_path / "train" / "fish").mkdir()
    (tmp_path / "train" / "cat" / "Thumbs.db").write_bytes(b"x")
    draw(tmp_path / "__MACOSX" / "cat" / "._0.png")
    tables = opened(tmp_path, "image")
    assert tables.label_names == ("cat", "dog")
    assert sum(sizes(tables)) == 20
    assert tables.train.left_out == {"without a label": 1}
    assert tables.unused == {
        "rows of the test split, which has no labels": 7,
        "images outside of the splits' folders (extra/0 1.png, extra/0.png)": 2,
        "empty folders (train/fish)": 1,
        "files not understood (train/cat/Thumbs.db)": 1,
        "hidden files (__MACOSX/cat/._0.png)": 1,
    }


def test_validation_may_lie_among_the_classes(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / name / "0.png", 10)
        draw(tmp_path / "val" / name / "0.png", 3)
    tables = opened(tmp_path, "image")
    assert tables.label_names == ("cat", "dog")
    assert len(tables.validation.rows) == 6


def test_the_class_is_the_folder_right_below_the_split(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / "all" / name / "day" / "0.png", 5)
        draw(tmp_path / "all" / name / "0.png", 5)
    tables = opened(tmp_path, "image")
    assert tables.label_names == ("cat", "dog")
    assert sum(sizes(tables)) == 20


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_metadata_table_names_the_images(suffix: str, tmp_path: Path) -> None:
    draw(tmp_path / "train" / "images" / "0.png", 20)
    names = sorted(path.name for path in (tmp_path / "train" / "images").iterdir())
    rows = [(f"images/{name}", "ab"[i % 2]) for i, name in enumerate(names[:18])]
    lines = ["file_name,label", *map(",".join, rows)]
    if suffix == "jsonl":
        lines = [json.dumps({"file_name": name, "label": label}) for name, label in rows]
    (tmp_path / "train" / f"metadata.{suffix}").write_text("\n".join(lines))
    tables = opened(tmp_path, "image")
    assert tables.label_names == ("a", "b")
    assert sum(sizes(tables)) == 18
    assert list(tables.unused.values()) == [2]


def test_links_to_folders_are_counted_and_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("cat", "dog"):
        draw(folder / name / "0.png", 6)
    draw(tmp_path / "elsewhere" / "0.png", 3)
    os.symlink(tmp_path / "elsewhere", folder / "fish")
    tables = opened(folder, "image")
    assert tables.label_names == ("cat", "dog")
    assert tables.unused == {"links to folders, which are not followed (fish)": 1}


def test_the_order_of_files_on_the_disk_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cat", "dog"):
        draw(tmp_path / name / "0.png", 10)
    before = [entry["path"] for entry in all_rows(opened(tmp_path, "image"), "image")]
    walk = os.walk

    def backwards(root: Path):  # type: ignore[no-untyped-def]
        for parent, folders, names in walk(root):
            folders.reverse()
            yield parent, folders, names[::-1]

    monkeypatch.setattr("os.walk", backwards)
    assert [entry["path"] for entry in all_rows(opened(tmp_path, "image"), "image")] == before


def test_a_data_set_saved_by_the_library_opens(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = {"text": [f"t {i}" for i in range(20)], "label": [i % 2 for i in range(20)]}
    both = DatasetDict({"train": Dataset.from_dict(rows), "test": Dataset.from_dict(rows)})
    both.save_to_disk(tmp_path / "two")
    both["train"].save_to_disk(tmp_path / "one")
    assert sizes(opened(tmp_path / "two")) == [18, 2, 20]
    assert sizes(opened(tmp_path / "one")) == [16, 2, 2]


def test_bytes_that_are_no_text_in_a_parquet_file_are_one_line(tmp_path: Path) -> None:
    half = pa.array([b"caf\xe9"] * 30, pa.binary()).view(pa.string())
    table = pa.table({"text": half, "label": ["a", "b"] * 15})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"train.parquet cannot be read as parquet \(.*UTF8"):
        opened(tmp_path)
