from __future__ import annotations

import numpy as np
import pytest

from nas.search.acquisition import expected_gain, gain_boxes, pick_round
from nas.search.pareto import hypervolume

rng = np.random.default_rng(5)


@pytest.mark.parametrize("n_objectives", [1, 2, 3, 4])
def test_certain_gain_is_the_difference_of_hypervolumes(n_objectives: int) -> None:
    measured, reference = rng.random((9, n_objectives)), np.full(n_objectives, 0.9)
    new = rng.random((30, n_objectives))
    gain = expected_gain(new, np.zeros_like(new), gain_boxes(measured, reference))
    before = hypervolume(measured, reference)
    exact = [hypervolume(np.vstack([measured, row]), reference) - before for row in new]
    assert np.allclose(gain, exact, atol=1e-9)


@pytest.mark.parametrize("n_objectives", [2, 3])
def test_expected_gain_is_the_mean_over_draws(n_objectives: int) -> None:
    measured, reference = rng.random((6, n_objectives)), np.ones(n_objectives)
    boxes = gain_boxes(measured, reference)
    mean, std = rng.random(n_objectives), rng.uniform(0.05, 0.3, n_objectives)
    draws = mean + std * rng.standard_normal((40_000, n_objectives))
    certain = expected_gain(draws, np.zeros_like(draws), boxes)
    standard_error = certain.std() / np.sqrt(len(draws))
    expected = expected_gain(mean[None], std[None], boxes)[0]
    assert expected == pytest.approx(certain.mean(), abs=4 * standard_error)


def test_nothing_measured_leaves_the_whole_box() -> None:
    boxes = gain_boxes(np.zeros((0, 2)), np.array([1.0, 2.0]))
    assert expected_gain(np.array([[0.5, 0.5]]), np.zeros((1, 2)), boxes)[0] == pytest.approx(0.75)


def test_a_round_does_not_take_the_same_gain_twice() -> None:
    mean = np.array([[0.2, 0.8], [0.201, 0.801], [0.8, 0.2]])
    measured, reference = np.array([[0.9, 0.9]]), np.ones(2)
    chosen = pick_round(measured, mean, np.zeros((3, 2)), np.ones(3), reference, 2)
    assert set(chosen.tolist()) == {0, 2}


def test_an_infeasible_candidate_is_the_last_choice() -> None:
    mean = np.array([[0.1, 0.1], [0.5, 0.5]])
    chosen = pick_round(
        np.zeros((0, 2)), mean, np.zeros((2, 2)), np.array([0.0, 1.0]), np.ones(2), 1
    )
    assert chosen.tolist() == [1]
