"""Quality metrics against scikit-learn, SciPy and hand-counted entities; a user's own metric."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    mean_absolute_error,
    roc_auc_score,
)

from nas.experiment.objectives import parse_constraint
from nas.experiment.schema import Experiment
from supernets.metrics.entities import entities
from supernets.metrics.metric import Quality
from supernets.metrics.own import own_quality
from supernets.metrics.registry import QUALITIES

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(200, 4)).round(1)
"""Rounded, so that some are equal."""
CLASSES = np.where(RNG.random(200) < 0.5, 0, RNG.integers(4, size=200))
MARKS = (RNG.random((200, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(np.float32)
CHANCES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
GUESS, FLOATS = LOGITS.argmax(1), RNG.normal(size=200).round(1)
EXPECTED = {
    "balanced_accuracy": balanced_accuracy_score(CLASSES, GUESS),
    "f1": f1_score(CLASSES, GUESS, average="macro"),
    "f1_micro": (GUESS == CLASSES).mean(),
    "auc": roc_auc_score(CLASSES, CHANCES, multi_class="ovr"),
}
OF_LABELS = {
    "f1": f1_score(MARKS, LOGITS > 0, average="macro"),
    "f1_micro": f1_score(MARKS, LOGITS > 0, average="micro"),
    "auc": roc_auc_score(MARKS, LOGITS),
    "map": average_precision_score(MARKS, LOGITS),
}
OF_NUMBERS = {
    "spearman": spearmanr(LOGITS[:, 0], FLOATS).statistic,
    "pearson": pearsonr(LOGITS[:, 0], FLOATS).statistic,
    "mae": mean_absolute_error(FLOATS, LOGITS[:, 0]),
}


def score(name: str, outputs: object, targets: object) -> float:
    return QUALITIES[name].score(outputs, targets, ())


@pytest.mark.parametrize("name", EXPECTED)
def test_metrics_of_classes_are_scikit_learns(name: str) -> None:
    assert score(name, LOGITS, CLASSES) == pytest.approx(EXPECTED[name])


@pytest.mark.parametrize("name", OF_LABELS)
def test_metrics_of_labels_are_scikit_learns(name: str) -> None:
    assert score(name, LOGITS, MARKS) == pytest.approx(OF_LABELS[name])


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_metrics_of_numbers_are_scipys(name: str) -> None:
    assert score(name, LOGITS[:, :1], FLOATS) == pytest.approx(OF_NUMBERS[name])


def test_outputs_that_are_all_alike_correlate_with_nothing() -> None:
    assert score("spearman", np.zeros((9, 1)), np.arange(9.0)) == 0
    assert score("pearson", np.zeros((9, 1)), np.arange(9.0)) == 0


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O B-PER I-PER O", [(1, 3, "PER")]),
        ("B-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
        ("I-PER I-LOC O I-LOC", [(0, 1, "PER"), (1, 2, "LOC"), (3, 4, "LOC")]),
        ("B-PER I-LOC", [(0, 1, "PER"), (1, 2, "LOC")]),
        ("S-PER B-LOC E-LOC E-LOC", [(0, 1, "PER"), (1, 3, "LOC"), (3, 4, "LOC")]),
        ("PER PER O LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
        ("O O", []),
    ],
)
def test_entities_are_counted_as_conlleval_does(
    tags: str, found: list[tuple[int, int, str]]
) -> None:
    assert list(entities(tags.split())) == found


def test_an_entity_counts_where_its_ends_and_its_type_are_right() -> None:
    names = ("O", "B-A", "I-A", "B-B")
    wanted = [np.array([1, 2, 0, 3]), np.array([1])]
    given = [np.eye(4)[[1, 2, 0, 1]], np.eye(4)[[1]]]
    right, ours, theirs = 2, 3, 3
    assert QUALITIES["entity_f1"].score(given, wanted, names) == 2 * right / (ours + theirs)
    assert QUALITIES["word_accuracy"].score(given, wanted, names) == 4 / 5


def test_the_standard_error_of_a_share_is_binomial_and_others_are_drawn_anew() -> None:
    share = float((GUESS == CLASSES).mean())
    accuracy = QUALITIES["accuracy"]
    formula = (share * (1 - share) / 200) ** 0.5
    assert accuracy.standard_error(LOGITS, CLASSES, ()) == pytest.approx(formula)
    drawn = Quality("drawn", "accuracy", accuracy.score)
    assert drawn.standard_error(LOGITS, CLASSES, ()) == pytest.approx(formula, rel=0.15)


def test_less_is_better_of_what_is_minimised() -> None:
    assert QUALITIES["mae"].worse_by(0.5, 0.3) == pytest.approx(0.2)
    assert QUALITIES["accuracy"].worse_by(0.5, 0.7) == pytest.approx(0.2)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A user's module that can be imported."""
    module = ModuleType("my_scores")
    module.half = lambda outputs, targets, names: len(outputs) / 2  # type: ignore[attr-defined]
    module.nothing = lambda *given: None  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_scores", module)
    return module


def test_a_metric_of_the_users_own_is_an_objective_like_others(own: ModuleType) -> None:
    experiment = Experiment.model_validate(
        {
            "name": "x",
            "model": {"vit": {}},
            "data": {"name": "digits"},
            "objectives": ["my_scores:half", "latency_ms"],
            "constraints": ["my_scores:half >= int8 - 0.1"],
        }
    )
    assert experiment.quality is own_quality("my_scores:half")
    assert experiment.quality.score(np.zeros((4, 2)), np.zeros(4), ()) == 2
    assert parse_constraint("my_scores:half >= 0.3").metric == "my_scores:half"


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("my_scores:none", "cannot be imported"),
        ("no_such_module_here:f", "ModuleNotFoundError.*start in the folder"),
        ("my_scores:number", "is no function, but int"),
        ("my_scores:nothing", "returned None; it must return one finite number"),
    ],
)
def test_a_function_that_cannot_be_used_is_told_in_one_line(
    own: ModuleType, place: str, told: str
) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        own_quality(place).score(np.zeros((4, 2)), np.zeros(4), ())
    assert "\n" not in str(caught.value)


def test_modules_are_looked_for_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scores_beside.py").write_text("def one(outputs, targets, names): return 1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert own_quality("scores_beside:one").score((), (), ()) == 1
