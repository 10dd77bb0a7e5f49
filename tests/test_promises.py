"""What is promised of a model holds on other samples: statistics against theory and simulation."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from hardware.formats.int8 import INT8
from hardware.formats.policy import QuantPolicy
from nas.delivery.fastest import AS_FAST
from nas.delivery.offers import offers
from nas.delivery.outcomes import read_outcomes, write_outcomes
from nas.delivery.promise import NEEDS, Offer, Promise, allowed_drops
from nas.delivery.results import ValidatedModel
from nas.delivery.selection import recommend
from nas.evaluation.candidate import Candidate
from nas.experiment.objectives import Cost, FloatArray
from supernets.data.data import Batch, Split
from supernets.data.kept_back import FEWEST_KEPT, keep_back, kept_rows
from supernets.data.text import TextSplit
from supernets.metrics.classes import ACCURACY
from supernets.metrics.metric import Quality
from supernets.metrics.paired import Z95, Comparison
from supernets.metrics.registry import QUALITIES
from supernets.model_settings import ModelSettings
from supernets.open_data import load_data
from supernets.settings import DataSettings
from supernets.tasks.classification import CLASSIFICATION
from supernets.tasks.predictions import Predictions

VIT = ModelSettings.model_validate(
    {"vit": {"image_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2,
             "hidden_dim": 16}}
)  # fmt: skip
ERROR = Quality("error", "error", lambda a, b, _: float(np.mean(a != b)), direction="minimize")
SHARE = replace(ACCURACY, right=None)
"""The same metric, as one of which nothing but the score is known."""


@pytest.mark.parametrize("part", [0.0, 0.1, 0.3, 0.5, 0.8])
def test_a_part_of_every_class_is_kept_back(part: float) -> None:
    classes = np.random.default_rng(0).choice(7, 1000, p=[0.4, 0.3, 0.2, 0.05, 0.03, 0.015, 0.005])
    rows = kept_rows(classes, part)
    assert len(set(rows)) == len(rows) == round(1000 * part)
    assert (np.diff(rows) > 0).all()
    for name in range(7):
        assert abs((classes[rows] == name).sum() - part * (classes == name).sum()) <= 1
    assert (rows == kept_rows(classes, part)).all()


def test_search_and_promises_see_different_images_of_one_split() -> None:
    whole = load_data(DataSettings(name="digits", kept_back=0), VIT)
    parts = load_data(DataSettings(name="digits", kept_back=0.6), VIT)
    assert whole.kept_back is None
    assert parts.kept_back is not None
    assert len(parts.kept_back) == 238 >= FEWEST_KEPT
    assert "238 of 397" in parts.notes[-1]
    classes = np.array(list(whole.validation.labels))
    rest = np.setdiff1d(np.arange(397), kept_rows(classes, 0.6))
    for size in (16, 8):  # prepared for a smaller network, too
        everything = _all(whole.validation.seen_by({"resolution": size}))
        seen = _all(parts.validation.seen_by({"resolution": size}))
        pixels = everything.inputs["pixel_values"]
        assert torch.equal(seen.inputs["pixel_values"], pixels[torch.from_numpy(rest)])
        assert torch.equal(seen.labels, everything.labels[torch.from_numpy(rest)])


def test_nothing_is_kept_back_of_few_samples() -> None:
    data = load_data(DataSettings(name="digits", kept_back=0.07), VIT)
    assert data.kept_back is None
    assert len(data.validation) == 397
    assert keep_back(data, 0.0) is data


def test_parts_of_texts_are_the_texts() -> None:
    texts = [torch.full((2, length), length) for length in (3, 4, 5, 6)]
    split = TextSplit(texts, torch.arange(4), 0, ("input_ids", "attention_mask"))
    part = split.part(torch.tensor([3, 1]))
    assert part.lengths.tolist() == [6, 4]
    assert [int(label) for label in part.labels] == [3, 1]


def _all(split: Split) -> Batch:
    return next(iter(split.batches(len(split))))


@pytest.mark.parametrize(
    ("both", "won", "lost", "neither"), [(50, 3, 9, 4), (80, 0, 5, 0), (9, 0, 0, 1)]
)
def test_shares_are_compared_as_mcnemar_and_bonett_and_price_say(
    both: int, won: int, lost: int, neither: int
) -> None:
    """The p of SciPy's binomial test; the interval as in Bonett and Price 2012, equation 4."""
    ours = np.repeat([True, True, False, False], [both, won, lost, neither])
    theirs = np.repeat([True, False, True, False], [both, won, lost, neither])
    found, n = Comparison.of_shares(ours, theirs), both + won + lost + neither
    expected = binomtest(won, won + lost, alternative="less").pvalue if won + lost else 1.0
    assert found.p == pytest.approx(expected)
    assert found.difference == pytest.approx((won - lost) / n)
    a, b = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z95 * np.sqrt((a + b - (a - b) ** 2) / (n + 2))
    assert found.interval == pytest.approx((found.difference - half, found.difference + half))


def test_intervals_cover_the_difference_of_two_models() -> None:
    """Simulated: at least 93 % of intervals of 95 %, also where models hardly differ."""
    rng = np.random.default_rng(0)
    for won, lost, n in product((0.01, 0.05), (0.01, 0.08), (200, 1000)):
        covered = []
        for _ in range(300):
            draw = rng.random(n)
            found = Comparison.of_shares(draw < won, (draw >= won) & (draw < won + lost))
            low, high = found.interval
            covered.append(low <= won - lost <= high)
        assert np.mean(covered) > 0.93


def test_any_metric_is_compared_by_drawing_samples_again() -> None:
    """Of a share it finds what the formula finds, and where less is better the test turns."""
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, 800)
    flips = rng.random((2, 800)) < [[0.10], [0.16]]
    ours, theirs = ((targets ^ flip)[:, None] == [0, 1] for flip in flips)
    ours, theirs = ours.astype(float), theirs.astype(float)
    formula = Comparison.of(ACCURACY, theirs, ours, targets, ())
    drawn = Comparison.of(SHARE, theirs, ours, targets, ())
    assert drawn.difference == pytest.approx(formula.difference)
    assert drawn.error == pytest.approx(formula.error, rel=0.15)
    assert drawn.p < 0.01
    assert formula.p < 0.01
    worse = Comparison.of(ERROR, theirs.argmax(1), ours.argmax(1), targets, ())
    assert worse.difference == pytest.approx(-formula.difference)
    assert worse.p < 0.01
    better = Comparison.of(ERROR, ours.argmax(1), theirs.argmax(1), targets, ())
    assert better.p > 0.9


def test_a_promise_is_what_was_kept_back() -> None:
    """Else what the search chose by."""
    kept, seen = Comparison(-0.010, 0.008, 0.2, 300), Comparison(0.006, 0.004, 0.9, 700)
    found = Promise.of(seen, kept, 2000)
    assert (found.difference, found.p, found.samples, found.kept_back) == (-0.010, 0.2, 300, True)
    assert found.chosen_by == 0.006
    half = Z95 * 0.008 * np.sqrt(1 + 300 / 2000)
    assert found.expected_high == pytest.approx(-0.010 + half)
    without = Promise.of(seen, None, 2000)
    assert (without.expected, without.p, without.kept_back) == (0.006, 0.9, False)


def test_promises_cover_what_test_finds() -> None:
    """Simulated: the expected difference on test, between two samples of the same two models."""
    rng, inside, gaps = np.random.default_rng(3), [], []

    def draw(n: int) -> Comparison:
        draws = rng.random(n)
        return Comparison.of_shares(draws < 0.03, (draws >= 0.03) & (draws < 0.08))

    for _ in range(400):
        found, test = Promise.of(draw(400), None, 600), draw(600).difference
        inside.append(found.expected_low <= test <= found.expected_high)
        gaps.append(found.expected - test)
    assert 0.93 < np.mean(inside) < 0.98
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / 20


def model(name: str, expected: float, latency: float, size: int, p: float = 0.5) -> ValidatedModel:
    promise = Promise(
        expected, expected - Z95, expected + Z95, p, 300, True, expected, expected, -1.0, 1.0
    )
    return ValidatedModel(
        name, "front", Candidate((), QuantPolicy({"head": INT8})), 0.9, 0.9,
        (latency, latency, latency), size, "", {}, promise=promise,
    )  # fmt: skip


@pytest.mark.parametrize("cost", get_args(Cost))
def test_every_need_gets_its_best_model(cost: Cost) -> None:
    """By brute force over random models: nothing that fits a need is better for it."""
    sized = {"smallest_at_2_points"}
    sized |= {"no_loss", "within_1_point"} if cost == "size_bytes" else set()
    rng = np.random.default_rng(4)
    low = model("int8", 0.0, 10.0, 1000, p=1.0)
    for _ in range(100):
        drawn = [
            model(f"m{i}", rng.uniform(-0.04, 0.01), rng.uniform(1, 12), int(rng.integers(1, 1200)),
                  rng.uniform(0, 0.2))
            for i in range(5)
        ]  # fmt: skip
        models = [low, *drawn]
        found = {offer.need: offer for offer in offers(models, ACCURACY, low, 0.005, cost)}
        assert tuple(found) == NEEDS
        for need, drop in allowed_drops(ACCURACY, 0.9, 0.005).items():
            for other in models:
                promise = other.promise
                assert promise is not None
                fits = promise.chosen_by >= -drop and (need != "no_loss" or promise.p >= 0.05)
                taken = next(m for m in models if m.name == found[need].model)
                if fits and need in sized:
                    assert taken.size_bytes <= other.size_bytes
                elif fits:
                    assert taken.latency_ms[0] <= AS_FAST * other.latency_ms[0]
        assert found["no_loss"] == Offer.from_json(found["no_loss"].to_json())


@pytest.mark.parametrize(
    ("metric", "reference", "half"), [("accuracy", 0.9, 0.005), ("mae", 30_000.0, 150.0)]
)
def test_no_loss_is_half_a_point_where_nothing_is_stated(
    metric: str, reference: float, half: float
) -> None:
    """A point is a hundredth, of the reference's value where less is better."""
    quality = QUALITIES[metric]
    assert allowed_drops(quality, reference, None)["no_loss"] == pytest.approx(half)
    assert allowed_drops(quality, reference, 0.0)["no_loss"] == 0.0

    def scored(name: str, worse_by: float, latency: float) -> ValidatedModel:
        role: Literal["front", "reference"] = "reference" if name in ("fp32", "int8") else "front"
        score = reference - quality.sign * worse_by
        return replace(model(name, 0.0, latency, 1), role=role, validation_score=score)

    models = [scored("fp32", 0.0, 9.0), scored("int8", 0.0, 5.0), scored("less", 0.9 * half, 3.0)]
    models += [scored("much", 1.1 * half, 1.0)]
    assert recommend(models, None, quality) == "less"
    assert recommend(models, 1.2 * half, quality) == "much"
    models[-1] = replace(models[-1], size_bytes=2)
    assert recommend(models, 1.2 * half, quality, "size_bytes") == "less"


@pytest.mark.parametrize("lengths", [None, [1, 3, 2]])
def test_outcomes_are_read_as_they_were_written(tmp_path: Path, lengths: list[int] | None) -> None:
    rows: list[FloatArray] = [np.arange(4.0) + i for i in range(3)]
    if lengths is not None:
        rows = [np.arange(float(n)) for n in lengths]
    found = Predictions(CLASSIFICATION)
    found._outputs, found._targets = list(rows), [np.array(i) for i in range(3)]
    if lengths is not None:
        ragged = type("Ragged", (type(CLASSIFICATION),), {"once_per_sample": False})
        found.task, found._targets = ragged(), list(rows)
    write_outcomes(tmp_path / "outcomes" / "m.npz", {"test": found})
    outputs, targets = read_outcomes(tmp_path / "outcomes" / "m.npz")["test"]
    assert [o.tolist() for o in outputs] == [row.tolist() for row in rows]
    assert len(targets) == 3
