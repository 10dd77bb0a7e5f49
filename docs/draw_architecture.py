"""Write into docs/architecture.md what the sources say: who imports whom, and what there is.

python docs/draw_architecture.py            # rewrites the parts between the marks
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hardware.formats.registry import ordered  # noqa: E402 # after the path is set
from hardware.providers import PROVIDERS, UNTRIED  # noqa: E402
from nas.experiment.metrics import METRICS  # noqa: E402
from nas.experiment.search_settings import STRATEGIES  # noqa: E402
from supernets.families.registry import FAMILIES, family  # noqa: E402
from supernets.tasks.registry import TASKS, make_task  # noqa: E402

PAGE = Path(__file__).with_name("architecture.md")
PACKAGES = ("nas", "supernets", "predictors", "hardware")
Graph = dict[str, set[str]]


def part(module: str) -> str:
    """The package and sub-package of a module, or the file at the package's top."""
    return ".".join(module.split(".")[:2])


def imports() -> Graph:
    """Part -> parts that its modules import, anywhere in them."""
    found: Graph = {}
    for path in (ROOT / "cli.py", *(p for name in PACKAGES for p in (ROOT / name).rglob("*.py"))):
        names = path.relative_to(ROOT).with_suffix("").parts
        if names[-1] == "__init__" and len(names) == 2:
            continue  # a package's docstring
        used = found.setdefault(part(".".join(names)), set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module and module.split(".")[0] in PACKAGES:
                used.add(part(module))
    return {name: used - {name} for name, used in sorted(found.items())}


def reduced(graph: Graph) -> Graph:
    """The arrows from which the others follow: none where a longer way leads."""

    def reach(name: str, known: Graph = {}) -> set[str]:  # noqa: B006 # a memory
        if name not in known:
            known[name] = set()
            known[name] = set().union(*({u} | reach(u) for u in graph.get(name, ())))
        return known[name]

    return {
        name: {u for u in used if not any(u in reach(v) for v in used - {u})}
        for name, used in graph.items()
    }


def import_rows(graph: Graph) -> list[str]:
    """A row a part: what it imports, and what imports it."""
    by = {name: sorted(n for n, used in graph.items() if name in used) for name in graph}
    return table(
        ("part", "imports", "is imported by"),
        [
            (_label(name), ", ".join(map(_label, sorted(used))), ", ".join(map(_label, by[name])))
            for name, used in sorted(graph.items())
        ],
    )


def _label(name: str) -> str:
    folder = (ROOT / name.replace(".", "/")).is_dir()
    return f"`{name.split('.')[-1]}{'/' if folder else '.py'}`"


def between_packages(graph: Graph) -> Graph:
    """The same for whole packages."""
    whole: Graph = {}
    for name, used in graph.items():
        top = name.split(".")[0]
        whole.setdefault(top, set()).update({u.split(".")[0] for u in used} - {top})
    return whole


def inside(graph: Graph, package: str) -> Graph:
    """The parts of one package."""
    return {
        name: {u for u in used if u.startswith(f"{package}.")}
        for name, used in graph.items()
        if name.startswith(f"{package}.")
    }


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def families() -> list[str]:
    """From `supernets.families.registry.FAMILIES`."""
    rows = [
        (
            f"`{name}`",
            ", ".join(family(name).model_types),
            ", ".join(f"`{dimension.name}`" for dimension in family(name).dimensions),
            f"`{place.split(':')[0]}`",
        )
        for name, place in FAMILIES.items()
    ]
    return table(("family", "`model_type` in config.json", "what can be elastic", "where"), rows)


def formats() -> list[str]:
    """From `hardware.formats.registry.FORMATS`."""
    rows = [
        (
            f"`{entry.name}`",
            entry.bits,
            "integers" if entry.integer else "floats",
            ", ".join(name for name, p in PROVIDERS.items() if entry in p.formats) or "none",
            f"`{type(entry).__module__}`",
        )
        for entry in ordered()
    ]
    return table(("format", "bits of a weight", "computes in", "providers", "where"), rows)


def providers() -> list[str]:
    """From `hardware.providers.PROVIDERS`."""
    rows = [
        (
            f"`{name}`",
            entry.execution_provider,
            ", ".join(f"`{x.name}`" for x in entry.formats),
            f"`{entry.low_reference.name}`",
            ", ".join(entry.linears) or "-",
            "yes" if entry.tried else UNTRIED,
        )
        for name, entry in PROVIDERS.items()
    ]
    heads = (
        "provider",
        "ONNX Runtime's name",
        "formats",
        "low reference",
        "integer linears",
        "measured",
    )
    return table(heads, rows)


def strategies() -> list[str]:
    """From `nas.experiment.search_settings.STRATEGIES`."""
    rows = [
        (
            f"`{name}`",
            ", ".join(f"`{option}`" for option in entry.options.model_fields) or "-",
            f"`{entry.place}`",
        )
        for name, entry in STRATEGIES.items()
    ]
    return table(("strategy", "options of its own", "where"), rows)


def tasks() -> list[str]:
    """From `supernets.tasks.registry.TASKS`."""
    found = (make_task(name, ()) for name in TASKS)
    rows = [
        (f"`{t.name}`", t.title, ", ".join(f"`{m}`" for m in t.metrics), t.problem_type or "-")
        for t in found
    ]
    return table(("task", "asks", "metrics, the usual one first", "`problem_type`"), rows)


def metrics() -> list[str]:
    """From `nas.experiment.metrics.METRICS`."""
    rows = [
        (f"`{m.name}`", m.direction, m.unit or "-", "computed" if m.exact else "measured")
        for m in METRICS.values()
    ]
    return table(("metric", "better", "unit", "known by being"), rows)


def parts() -> Mapping[str, list[str]]:
    """Name of a mark -> lines to stand there."""
    graph = imports()
    within = {name: import_rows(reduced(inside(graph, name))) for name in PACKAGES}
    return {
        "packages": import_rows(reduced(between_packages(graph))),
        **within,
        "families": families(),
        "formats": formats(),
        "providers": providers(),
        "strategies": strategies(),
        "tasks": tasks(),
        "metrics": metrics(),
    }


def rewritten(page: str) -> str:
    """The page with every marked part as it should be. Raises ValueError for a missing mark."""
    for name, lines in parts().items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"docs/architecture.md: needs {begin} and {end} once each")
        text = "\n".join([begin, "", *lines, "", end])
        before, rest = page.split(begin)
        page = before + text + rest.split(end)[1]
    return page


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
