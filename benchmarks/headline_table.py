"""Tables and plots of benchmarks/headline.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from nas.delivery.markdown import markdown_table
from nas.reporting.halves import COLUMNS

Row = Mapping[str, Any]
README = Path(__file__).parent / "README.md"
ASKED = 2.0
"""Times faster and times smaller that every family should reach."""

BEGIN, END = "<!-- headline: begin -->", "<!-- headline: end -->"


def write_tables(results: Sequence[Row], plots: Path) -> None:
    """Replace what stands between the marks in benchmarks/README.md; one plot per task."""
    tasks = {
        task: list(group)
        for task, group in groupby(results, key=lambda result: str(result["task"]))
    }
    lines = [*_summary(tasks), "", *_means(tasks), "", *_headline(results)]
    for task, trials in tasks.items():
        lines += _task(task, trials)
        _plot(trials, plots / f"{task}.svg")
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(before + BEGIN + "\n\n" + "\n".join(lines) + "\n" + END + after, "utf-8")


def baseline(result: Row) -> Row:
    """The plainly fine-tuned network in INT8."""
    return next(row for row in result["models"] if row["name"] == "int8")


def at_no_loss(result: Row) -> list[Row]:
    """Our searched models whose test accuracy is no lower than the baseline's."""
    bar = baseline(result)["test_accuracy"]
    return [row for row in _searched(result) if row["test_accuracy"] >= bar]


def _searched(result: Row) -> list[Row]:
    known = ("fp32", "int8", "ours fp32", "ours int8")
    return [row for row in result["models"] if row["name"] not in known]


def _summary(tasks: Mapping[str, Sequence[Row]]) -> list[str]:
    """What all seeds of a task come to."""
    lines = [
        "| task | seeds with a model at no loss | faster, median of those seeds | smaller "
        f"| seeds with {ASKED} times both in one model |",
        "|---|---|---|---|---|",
    ]
    for task, trials in tasks.items():
        good = [rows for rows in map(at_no_loss, trials) if rows]
        both = [rows for rows in good if any(_least(row) >= ASKED for row in rows)]
        cells = [task, f"{len(good)} of {len(trials)}"]
        for key in (_ratio_faster, _ratio_smaller):
            best = [max(map(key, rows)) for rows in good]
            cells.append(f"{statistics.median(best):.2f}x" if best else "-")
        lines.append("| " + " | ".join([*cells, f"{len(both)} of {len(trials)}"]) + " |")
    return lines


def _means(tasks: Mapping[str, Sequence[Row]]) -> list[str]:
    """The fastest model of every seed, at no loss or not: one seed's accuracy is a noisy bar."""
    lines = [
        "| task | seeds | fastest model of every seed: mean accuracy | mean of the baselines "
        "| faster, median | smaller |",
        "|---|---|---|---|---|---|",
    ]
    for task, trials in tasks.items():
        fastest = [max(_searched(trial), key=_ratio_faster) for trial in trials]
        means = [
            statistics.mean(row["test_accuracy"] for row in rows)
            for rows in (fastest, map(baseline, trials))
        ]
        ratios = [statistics.median(map(key, fastest)) for key in (_ratio_faster, _ratio_smaller)]
        cells = [task, str(len(trials)), *(f"{100 * mean:.2f} %" for mean in means)]
        lines.append("| " + " | ".join([*cells, *(f"{ratio:.2f}x" for ratio in ratios)]) + " |")
    return lines


def _ratio_faster(row: Row) -> float:
    return float(row["faster"][0])


def _ratio_smaller(row: Row) -> float:
    return float(row["smaller"])


def _least(row: Row) -> float:
    return min(_ratio_faster(row), _ratio_smaller(row))


def _headline(results: Sequence[Row]) -> list[str]:
    lines = [
        "| task | seed | baseline: test accuracy | fastest at no loss: accuracy | faster (95 %) "
        "| smaller | smallest at no loss: accuracy | faster | smaller |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        good = at_no_loss(result)
        cells = [result["task"], str(result["seed"]), _accuracy(baseline(result), result)]
        if good:
            fastest, smallest = max(good, key=_ratio_faster), max(good, key=_ratio_smaller)
            cells += [_accuracy(fastest, result), _faster(fastest), f"{fastest['smaller']:.2f}x"]
            cells += [_accuracy(smallest, result), f"{_ratio_faster(smallest):.2f}x"]
            cells += [f"{smallest['smaller']:.2f}x"]
        else:
            closest = max(_searched(result), key=lambda row: row["test_accuracy"])
            cells += [f"none; closest {_accuracy(closest, result)}", _faster(closest)]
            cells += [f"{closest['smaller']:.2f}x", "-", "-", "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _accuracy(row: Row, result: Row) -> str:
    """Test accuracy with the standard error of a share of so many samples."""
    share = float(row["test_accuracy"])
    error = (share * (1 - share) / result["samples"]["test"]) ** 0.5
    return f"{100 * share:.2f} ± {100 * error:.2f} %"


def _faster(row: Row) -> str:
    value, low, high = row["faster"]
    return f"{value:.2f}x ({low:.2f}-{high:.2f}){', disturbed' if row.get('disturbed') else ''}"


def _task(task: str, trials: Sequence[Row]) -> list[str]:
    first = trials[0]
    conditions = first["conditions"]
    minutes = ", ".join(f"{trial['seconds'] / 60:.0f}" for trial in trials)
    lines = [
        "",
        f"### {task}",
        "",
        f"Seed {first['seed']}, commit {conditions['commit']}, {conditions['cpu']}, "
        f"{conditions['threads']} thread, batch {conditions['batch_size']}, "
        f"{_length(conditions)}ONNX Runtime {conditions['onnxruntime']}, torch "
        f"{conditions['torch']}; minutes per seed: {minutes}.",
        "",
        "| model | test accuracy | ms | faster than the baseline | kB | smaller |",
        "|---|---|---|---|---|---|",
    ]
    titles = {
        "fp32": "plainly fine-tuned, FP32",
        "int8": "**the same, ONNX Runtime's INT8: the baseline**",
        "ours fp32": "super-network's full network, FP32",
        "ours int8": "the same, our INT8",
    }
    lines += [
        f"| {titles.get(row['name'], '`' + row['name'] + '`')} | {_accuracy(row, first)} "
        f"| {row['latency_ms']:.3f} | {_faster(row)} | {row['size_bytes'] / 1000:,.0f} "
        f"| {row['smaller']:.2f}x |"
        for row in first["models"]
    ]
    lines += ["", f"![{task}](headline/{task}.svg)", "", *_strategies(trials), *_halves(trials)]
    return lines


def _length(conditions: Row) -> str:
    tokens = conditions["sequence_length"]
    return "" if tokens is None else f"{tokens} tokens, "


def _strategies(trials: Iterable[Row]) -> list[str]:
    """Median hypervolume of each way of searching."""
    trials = [trial for trial in trials if trial["strategies"]]
    if not trials:
        return []
    lines = [
        "| search, equal measurements | hypervolume, median of seeds | each |",
        "|---|---|---|",
    ]
    for name in trials[0]["strategies"]:
        shares = [trial["strategies"][name] for trial in trials]
        each = ", ".join(f"{share:.3f}" for share in shares)
        lines.append(f"| {name} | {statistics.median(shares):.3f} | {each} |")
    return lines


def _halves(trials: Sequence[Row]) -> list[str]:
    """What the search gave each half of networks that have two, beside the full network."""
    given = [trial for trial in trials if "halves" in trial]
    if not given:
        return []
    rows = [
        (str(trial["seed"]), *row)
        for trial in given
        for row in trial["halves"]
        if row[0] not in ("fp32", "int8")
    ]
    whole = [("all", "full network", *row[1:]) for row in given[0]["halves"] if row[0] == "int8"]
    return markdown_table(("seed", *COLUMNS), [*whole, *rows])


def _plot(trials: Sequence[Row], path: Path) -> None:
    """Test accuracy over latency and over size, baseline at one."""
    mpl.rcParams["svg.hashsalt"] = "simqnas"
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    sides = ((_ratio_faster, "times faster"), (_ratio_smaller, "times smaller"))
    for axis, (ratio, title) in zip(axes, sides, strict=True):
        for number, trial in enumerate(trials):
            rows = _searched(trial)
            found = [ratio(row) for row in rows]
            shares = [100 * row["test_accuracy"] for row in rows]
            axis.scatter(found, shares, label=f"ours, seed {trial['seed']}", color=f"C{number}")
            bar = 100 * baseline(trial)["test_accuracy"]
            axis.axhline(bar, color=f"C{number}", linewidth=0.8, linestyle="--")
        axis.axvline(1, color="grey", linewidth=0.8)
        axis.set_xlabel(f"{title} than the INT8 baseline (dashed: its accuracy)")
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend()
    figure.savefig(path, metadata={"Date": None})
