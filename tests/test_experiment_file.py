"""Experiment files: what is read, and one message per mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from nas.experiment.load import ExperimentError, dump_experiment, experiment_of, load_experiment
from nas.experiment.schema import Experiment

Write = Callable[..., Path]
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    assert load_experiment(path).name == path.stem


def test_what_is_dumped_reads_back_the_same(experiment_file: Write, tmp_path: Path) -> None:
    experiment = load_experiment(experiment_file())
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(dump_experiment(experiment))
    assert load_experiment(resolved) == experiment


def test_overrides_replace_and_create_fields(experiment_file: Write) -> None:
    overrides = ["search.evaluations=80", "target.threads=2", "constraints=['size_bytes <= 1 MB']"]
    experiment = load_experiment(experiment_file(), overrides)
    assert experiment.search.evaluations == 80
    assert experiment.target.threads == 2
    assert experiment.parsed_constraints()[0].bound == 1e6


def test_all_mistakes_are_told_in_one_go(experiment_file: Write) -> None:
    path = experiment_file(
        search={"evaluatons": 5, "round_size": 0},
        seed="many",
        objectives=["accuracy", "accuracy"],
        constraints=["latncy <= 3"],
    )
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    assert "search.evaluatons: unknown key; did you mean 'evaluations'?" in told
    assert "search.round_size" in told
    assert "(given: 0)" in told
    assert "seed" in told
    assert "objectives repeat" in told
    assert "latncy" in told
    assert all(problem.startswith(str(path)) for problem in caught.value.problems)


def test_the_kinds_of_value_that_a_place_takes_stand_in_one_line(experiment_file: Write) -> None:
    with pytest.raises(ExperimentError) as caught:
        load_experiment(experiment_file(data={"label_column": 5}))
    (told,) = (line for line in caught.value.problems if "label_column" in line)
    assert told.endswith("input should be a valid string or a valid list (given: 5)")


def test_a_drop_in_percent_is_refused_where_the_metric_is_a_share(experiment_file: Write) -> None:
    """A mean absolute error has the unit of what is told, of which any number may be accepted."""
    with pytest.raises(ExperimentError, match=r"for 2 points write 0\.02"):
        load_experiment(experiment_file(export={"accuracy_drop": 2}))
    errors = {"objectives": ["mae", "latency_ms"], "constraints": []}
    loaded = load_experiment(experiment_file(export={"accuracy_drop": 2}, **errors))
    assert loaded.export.accuracy_drop == 2


@pytest.mark.parametrize(
    ("place", "given", "told"),
    [
        ("data.image_column", [], "at least 2 items"),
        ("data.image_column", ["left"], "at least 2 items"),
        ("data.image_column", ["a", "b", "c"], "at most 2 items"),
        ("data.label_column", [], "at least 1 item"),
        ("data.label_column.1", ["a", 5], "should be a valid string (given: 5)"),
        ("space.vocabulary.0", [-0.5], "a fraction above 0 and at most 1.0 (given: -0.5)"),
        ("space.vocabulary.1", [0.5, 1.5], "a fraction above 0 and at most 1.0 (given: 1.5)"),
        ("space.vocabulary.0", [True], "must be a whole number"),
        ("space.vocabulary", [], "at least 1 item"),
        ("tune.epochs", True, "a number, not true or false"),
        ("search.patience", True, "a number, not true or false"),
        ("tune.learning_rate", float("inf"), "a finite number"),
        ("objectives.0", ["speed"], "latency_ms, "),
        ("data.name", "", "must not be empty (given: '')"),
        ("model.checkpoint", " ", "must not be empty (given: ' ')"),
    ],
)
def test_a_mistake_is_one_line(
    experiment_file: Write, place: str, given: object, told: str
) -> None:
    section, *keys = [part for part in place.split(".") if not part.isdigit()]
    sections: dict[str, Any] = {"data": {"name": "digits"}}
    sections[section] = {**sections.get(section, {}), keys[0]: given} if keys else given
    with pytest.raises(ExperimentError) as caught:
        load_experiment(experiment_file(**sections))
    (problem,) = caught.value.problems
    assert f": {place}: " in problem
    assert told in problem


NUMBERS = [-1, -0.5, 1e30, float("nan")]
ODD: list[object] = [None, True, *NUMBERS, "", "x\ny", [], [[]], [None], ["x"], {}, {"name": 1}]


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    """An experiment with every section."""
    base = {"name": "a", "model": {"checkpoint": "x"}, "data": {"name": "digits"}}
    polish = {"epochs": 1, "teacher": {"epochs": 1}}
    space = {"depth": [0.5], "vocabulary": [0.5], "precision": {"*": ["int8"]}}
    filled = {**base, "polish": polish, "space": space, "budget": "9 min"}
    return Experiment.model_validate(filled).model_dump(mode="json")


def test_every_field_tells_a_wrong_value_in_one_line(full: dict[str, Any]) -> None:
    refused = 0
    for *parents, last in places(full):
        for odd in ODD:
            data = section = deepcopy(full)
            for key in parents:
                section = section[key]
            section[last] = odd
            try:
                experiment_of(data, Path(), "file")
            except ExperimentError as error:
                refused += 1
                told = str(error).splitlines()
                assert len(told) == 1, told
    assert refused > 500


def test_a_number_that_no_run_can_have_is_told_by_its_field(full: dict[str, Any]) -> None:
    tried = 0
    for *parents, last in places(full):
        data = section = deepcopy(full)
        for key in parents:
            section = section[key]
        if type(section[last]) is int:
            section[last] = 10**30
            with pytest.raises(ExperimentError, match=f"{'.'.join([*parents, last])}: "):
                experiment_of(data, Path(), "file")
            tried += 1
    assert tried > 15


def places(value: object, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys that lead to every value in sections."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield (*prefix, key)
            yield from places(child, (*prefix, key))


@pytest.mark.parametrize(
    ("provider", "style"),
    [("cpu", "dynamic"), ("tensorrt", "qdq"), ("openvino", "qdq")],
)
def test_linears_are_realised_as_the_target_runs_them_best(
    experiment_file: Write, provider: str, style: str
) -> None:
    path = experiment_file(target={"provider": provider})
    assert load_experiment(path).quantization.linear == style
    assert load_experiment(path, ["quantization.linear=qdq"]).quantization.linear == "qdq"


def test_a_constraint_names_a_row_that_the_target_has(experiment_file: Write) -> None:
    path = experiment_file(constraints=["accuracy >= int8 - 0.1"], target={"provider": "cuda"})
    with pytest.raises(ExperimentError, match=r"'int8' is no reference row; .* fp32, fp16"):
        load_experiment(path)
    load_experiment(path, ["constraints=['accuracy >= fp16 - 0.1']"])
    load_experiment(path, ["target.provider=cpu"])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["target.provider=tensorrt", "quantization.linear=dynamic"],
            r"quantization\.linear: dynamic .* tensorrt; allowed are qdq",
        ),
        (
            ["target.provider=cuda", "quantization.int4_kernel=w4a8"],
            r"\.int4_kernel: w4a8 .* cuda; allowed are matmulnbits",
        ),
        (
            ["target.provider=npu"],
            "provider 'npu' is unknown; allowed are cpu, cuda, tensorrt, ",
        ),
        (["space.detph=[2]"], r"unknown key 'detph'; did you mean 'depth'\? allowed are preset"),
        (["space.depth=[1.5]"], r"must be a whole number .* at most 1\.0 \(given: 1\.5\)"),
        (
            ["space.precision={'*': [int5]}"],
            "no format 'int5'; allowed are int2, int3, int4, ",
        ),
    ],
)
def test_what_the_target_cannot_run_is_refused(
    experiment_file: Write, overrides: list[str], told: str
) -> None:
    with pytest.raises(ExperimentError, match=told):
        load_experiment(experiment_file(), overrides)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\nname: b\n", "given twice"),
        ("name: &x a\nmodel: *x\n", "aliases"),
        ("- a\n- b\n", "must hold keys and values"),
        ("name: [1\n", "not valid YAML"),
        ("1: a\n", "must be text"),
        ("name: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("", "must hold keys and values"),
    ],
)
def test_what_is_not_an_experiment_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ExperimentError, match=told):
        load_experiment(path)


@pytest.mark.parametrize("override", ["search", "=3", "search..x=1", "seed.x=1", "a=[1"])
def test_an_override_that_cannot_be_read_is_refused(experiment_file: Write, override: str) -> None:
    with pytest.raises(ExperimentError, match="--set"):
        load_experiment(experiment_file(), [override])


def test_unreadable_files_are_told_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="No such file"):
        load_experiment(tmp_path / "missing.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExperimentError, match="UTF-8"):
        load_experiment(binary)


def test_a_checkpoint_beside_the_file_becomes_absolute(experiment_file: Write) -> None:
    path = experiment_file(model={"checkpoint": "weights"})
    assert load_experiment(path).model.checkpoint == "weights"
    (path.parent / "weights").mkdir()
    assert load_experiment(path).model.checkpoint == str((path.parent / "weights").resolve())


def test_every_field_is_described() -> None:
    schema = Experiment.model_json_schema()
    for name, model in {"Experiment": schema, **schema["$defs"]}.items():
        for field, entry in model.get("properties", {}).items():
            told = entry.get("description") or "$ref" in entry  # a section describes itself
            assert told or field == "family", f"{name}.{field}"


def test_the_schema_accepts_the_examples_keys() -> None:
    properties = Experiment.model_json_schema()["properties"]
    for path in EXAMPLES:
        assert set(yaml.safe_load(path.read_text())) <= set(properties)
