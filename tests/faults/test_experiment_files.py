"""Whatever an experiment file holds, it is understood or refused with one message."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.experiment.load import ExperimentError, dump_experiment, load_experiment
from nas.experiment.schema import Experiment
from tests.faults.victim import EXPERIMENT

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["../../etc/passwd", "/etc", "~", "\u202e", "1e999", "!!python/object:os"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
FULL = Experiment.model_validate(EXPERIMENT).model_dump(mode="json")


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a nested value."""
    children = value.items() if isinstance(value, dict) else ()
    below = [path for key, child in children for path in paths(child, (*prefix, key))]
    return [prefix, *below] if prefix else below


@st.composite
def mutated(draw: Callable[..., Any]) -> dict[str, Any]:
    """A valid experiment with up to three places replaced, removed or added to."""
    data: dict[str, Any] = copy.deepcopy(draw(st.sampled_from([EXPERIMENT, FULL])))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(paths(data)))
        section: Any = data
        for key in parents:
            section = section[key]
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            section[last] = draw(VALUES)
        elif action == "remove":
            del section[last]
        else:
            section[draw(st.text(max_size=10))] = draw(VALUES)
    return data


BROKEN_TEXT = st.one_of(
    st.text(max_size=200),
    st.sampled_from(
        [
            "name: a\nname: b\n",
            "a: &x [1]\nb: *x\n",
            "a: &a {<<: *a}\n",
            "!!python/object/apply:os.system ['true']\n",
            "? [1, 2]\n: 3\n",
            "- just\n- a list\n",
            "name: \t\n\t- x",
            "{" * 3000,
            "a: " + "[" * 3000,
            "\x00",
            "---\na: 1\n---\nb: 2\n",
            "name: 2001-01-01\n",
            "data: !!binary aGVsbG8=\n",
        ]
    ),
)


def assert_understood_or_refused(path: Path) -> None:
    """A run plan that survives its own file format, or one message without a traceback."""
    before = sorted(path.parent.iterdir())
    problems: tuple[str, ...] = ()
    try:
        experiment = load_experiment(path)
    except ExperimentError as error:
        problems = error.problems or ("refused without a reason",)
    else:
        again = path.with_name("again.yaml")
        again.write_text(dump_experiment(experiment), encoding="utf-8")
        round_trip = load_experiment(again)
        again.unlink()
        assert round_trip == experiment
    assert all(problem.startswith(str(path)) for problem in problems)
    assert sorted(path.parent.iterdir()) == before


def tried(contents: st.SearchStrategy[str], examples: int, path: Path) -> None:
    """Read many files."""

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(content=contents)
    def try_one(content: str) -> None:
        path.write_text(content, encoding="utf-8", errors="surrogatepass")
        assert_understood_or_refused(path)

    try_one()


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_mutated_experiments_are_understood_or_refused(tmp_path: Path, times: int) -> None:
    written = mutated().map(lambda data: yaml.safe_dump(data, allow_unicode=True))
    tried(written, 150 * times, tmp_path / "experiment.yaml")


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_any_text_is_understood_or_refused(tmp_path: Path, times: int) -> None:
    tried(BROKEN_TEXT, 60 * times, tmp_path / "experiment.yaml")
