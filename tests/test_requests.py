"""Whole requests: which samples are asked about, and what is timed of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hardware.target import Target
from nas.delivery.requests import LOOKED_AT, Requests
from nas.reporting.page import html, picture_of
from supernets.data.account import SplitSource
from supernets.tasks.registry import make_task
from tests.sample_report import sample_report


def source(samples: list[Any]) -> SplitSource:
    def no_hashes() -> Any:
        raise AssertionError

    return SplitSource(np.zeros(len(samples)), no_hashes, samples.__getitem__, len(samples))


@pytest.mark.parametrize(
    "kind",
    [
        lambda n: "a" * n,
        lambda n: bytes(n),
        lambda n: ["ab"] * n,
        lambda n: ("a" * n, "b" * n),
        lambda n: Image.new("L", (n, n)),
    ],
)
def test_the_samples_of_a_request_are_those_of_median_length(kind: Any) -> None:
    lengths = [*np.random.default_rng(0).permutation(np.arange(1, 10)).tolist(), 1]
    samples = [kind(n) for n in lengths]
    task = make_task("classification", ("x",))
    found = Requests.of(source(samples), task, Target(batch_size=2)).samples
    assert [lengths[[s is f for s in samples].index(True)] for f in found] == [4, 5]


def test_a_request_is_filled_from_few_samples_and_few_are_looked_at() -> None:
    task = make_task("classification", ("x",))
    assert Requests.of(source(["a"]), task, Target(batch_size=3)).samples == ["a"] * 3
    many = ["a"] * LOOKED_AT + ["a" * 99] * (2 * LOOKED_AT)
    assert Requests.of(source(many), task, Target()).samples == ["a"]


def test_embedders_are_asked_about_one_text_of_a_pair() -> None:
    task = make_task("embedding", (), True, pooling="mean", known="scores")
    assert Requests.of(source([("one", "two")]), task, Target()).samples == ["one"]


def test_an_axis_that_delivered_models_alone_have_is_drawn() -> None:
    report = sample_report()
    front = report.front
    models = tuple(replace(m, end_to_end_ms=(9.0, 8.0, 10.0)) for m in front.models)
    timed = picture_of(replace(report, front=replace(front, models=models)))
    assert "end_to_end_ms" in {axis["name"] for axis in timed["axes"]}
    having = {p["name"] for p in timed["points"] if "end_to_end_ms" in p["metrics"]}
    assert having == {model.name for model in models}
    assert "end_to_end_ms" not in {axis["name"] for axis in picture_of(report)["axes"]}


def test_the_page_speaks_of_whole_requests_only_where_some_were_timed() -> None:
    report = sample_report()
    models = tuple(replace(m, end_to_end_ms=(9.0, 8.0, 10.0)) for m in report.front.models)
    timed = replace(report, front=replace(report.front, models=models))
    assert "End-to-end latency" in html(timed)
    assert "End-to-end latency" not in html(report)
