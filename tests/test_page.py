"""report.html in a real browser: nothing complains, points are chosen by mouse and by keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.reporting.compare import comparison
from nas.reporting.page import html
from tests.browser import AXE, needs_axe, needs_chromium, opened
from tests.sample_report import sample_report

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html(sample_report()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def compare_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "compare.html"
    reports = [sample_report("one"), sample_report("two", seed=1)]
    path.write_text(comparison(reports), encoding="utf-8")
    return path


def test_points_are_chosen_by_mouse_keys_and_buttons(report_page: Path) -> None:
    report = sample_report()
    latencies = {e.candidate.key: e.metrics["latency_ms"] for e in report.evaluations}
    latencies |= {m.name: m.latency_ms[0] for m in report.front.references}
    ranked = sorted(latencies.values())
    with opened(report_page) as page:
        shown = page.locator("#shown")
        assert report.front.recommended in shown.inner_text()
        page.get_by_role("button", name="int8", exact=True).click()
        assert shown.inner_text() == "int8 (reference)"
        page.locator("#points").focus()
        places = {"Home": 0, "ArrowRight": 1, "ArrowDown": 2, "End": -1, "ArrowLeft": -2}
        for key, place in places.items():
            page.keyboard.press(key)
            chosen = page.locator("#points [aria-selected=true]")
            assert latencies[shown.inner_text().split()[0]] == ranked[place]
            assert chosen.count() == 1
            assert chosen.get_attribute("id") == page.locator("#points").get_attribute(
                "aria-activedescendant"
            )
        first, last = (
            page.locator(f"#points [aria-label^='{name},']").bounding_box()
            for name in ("fp32", "int8")
        )
        assert first is not None
        assert last is not None
        page.mouse.move(first["x"] + 7, first["y"] + 7)
        page.mouse.down()
        assert shown.inner_text() == "fp32 (reference)"
        page.mouse.move(last["x"] + 7, last["y"] + 7, steps=8)
        page.mouse.up()
        assert shown.inner_text() == "int8 (reference)"


def test_the_drawing_is_the_candidate_beside_the_full_network(report_page: Path) -> None:
    report = sample_report()
    shallow = next(e for e in report.evaluations if dict(e.candidate.architecture)["depth"] == 1)
    with opened(report_page) as page:
        page.locator("#points").focus()
        page.keyboard.press("Home")
        while shallow.candidate.key not in page.locator("#shown").inner_text():
            page.keyboard.press("ArrowRight")
        ours, full = page.locator(".networks figure").all()
        assert ours.locator(".dropped").count() == 2
        assert full.locator(".dropped").count() == 0
        width = dict(shallow.candidate.architecture)["blocks.0.width"]
        block = ours.locator("[role=img][aria-label^='blocks.0:']").get_attribute("aria-label")
        assert block is not None
        assert f"width {width} of 4" in block
        assert shallow.candidate.policy["blocks.0"].name in block
        bar = ours.locator(".bar i").nth(1).evaluate("bar => bar.style.width")
        assert float(bar.removesuffix("%")) == pytest.approx(100 * int(width) / 4)


def test_layers_are_mapped_by_their_shares(report_page: Path) -> None:
    report = sample_report()
    layers = report.profiles[report.front.recommended]
    with opened(report_page) as page:
        map_ = page.locator("[aria-label^='by share of the multiply-accumulates:']")
        assert map_.locator("span").count() == len(layers)
        assert "everything else 2 MACs" in str(map_.get_attribute("aria-label"))
        total = sum(layer["macs"] for layer in layers.values())
        for place, (name, layer) in enumerate(layers.items()):
            part = map_.locator("span").nth(place)
            assert str(part.get_attribute("title")).startswith(name or "everything else")
            width = str(part.evaluate("part => part.style.width"))
            assert float(width.removesuffix("%")) == pytest.approx(
                100 * layer["macs"] / total, 1e-4
            )


def test_axes_are_chosen_and_the_line_is_the_front_of_the_two(report_page: Path) -> None:
    report = sample_report()
    with opened(report_page) as page:
        page.get_by_label("across").select_option("size_bytes")
        line = page.locator("#picture .step").get_attribute("points")
        rows = {e.candidate.key: e.metrics for e in report.evaluations}
        rows |= {
            m.name: {"accuracy": m.validation_score, "size_bytes": float(m.size_bytes)}
            for m in report.front.models
        }
        pairs = {(row["size_bytes"], row["accuracy"]) for row in rows.values()}
        front = [
            (size, accuracy)
            for size, accuracy in pairs
            if not any(s <= size and a >= accuracy and (s, a) != (size, accuracy) for s, a in pairs)
        ]
        assert line is not None
        assert len(line.split()) == 2 * len(front) - 1
        label = page.locator("#points").get_attribute("aria-label")
        assert label == "Measured models, validation accuracy over size (bytes)"


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("report_page", 375, "light"), ("report_page", 1600, "dark"), ("compare_page", 375, "dark")],
)
@needs_axe
def test_pages_fit_and_have_no_serious_fault(
    name: str, width: int, scheme: str, request: pytest.FixtureRequest
) -> None:
    with opened(request.getfixturevalue(name), width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.add_script_tag(path=AXE)
        found = page.evaluate("axe.run()")["violations"]
        assert [fault["id"] for fault in found if fault["impact"] in {"serious", "critical"}] == []


def test_a_page_is_small_and_loads_nothing(report_page: Path, compare_page: Path) -> None:
    for path in (report_page, compare_page):
        text = path.read_text(encoding="utf-8")
        assert len(text) < 2_000_000
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
