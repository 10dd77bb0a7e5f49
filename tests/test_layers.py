"""The import rule: data flows one way, so imports do, between packages and inside them."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"cli", "nas", "supernets", "predictors", "hardware"}
MAY_IMPORT = {
    "cli": OURS,
    "nas": {"nas", "supernets", "predictors", "hardware"},
    "supernets": {"supernets"},
    "predictors": {"predictors"},
    "hardware": {"hardware"},
}
INSIDE: dict[str, dict[str, set[str]]] = {
    "nas": {
        "experiment": set(),
        "evaluation": set(),
        "search": {"experiment"},
        "run": {"experiment"},
        "ledger": {"evaluation", "experiment", "run"},
        "training": {"evaluation", "experiment", "run"},
        "recipe": {
            *("experiment", "run", "evaluation", "search", "cost_models", "run_session"),
            *("ledger", "training", "delivery"),
        },
        "workers": {"evaluation", "experiment", "run", "ledger"},
        "delivery": {"evaluation", "experiment", "run", "search", "training"},
        "reporting": {"evaluation", "experiment", "run", "search", "ledger", "delivery"},
    },
    "supernets": {
        "settings": {"presets"},
        "user_code": set(),
        "metrics": {"user_code"},
        "tasks": {"settings", "metrics"},
        "model_settings": {"settings", "families"},
        "space": {"settings"},
        "data": {"settings", "space", "tasks", "user_code"},
        "layers": {"settings", "space", "data", "tasks"},
        "families": {"settings", "space", "data", "layers", "tasks"},
        "pretrained": {
            *("settings", "space", "data", "layers", "families", "model_settings", "tasks")
        },
        "training": {"settings", "space", "data", "layers", "families", "metrics", "tasks"},
    },
    "hardware": {
        "files": set(),
        "settings": set(),
        "processors": set(),
        "graph": {"files"},
        "formats": {"settings", "graph"},
        "providers": {"formats"},
        "target": {"settings", "formats", "providers"},
        "session": {"files", "formats", "target"},
        "writing": {"files", "formats", "graph", "target", "session"},
    },
}
"""Package -> part -> the parts of the same package it may import; a part that is not named here
may import all of them, as far as that leaves no circle."""
SHARED = {
    "supernets": (
        "hardware.files",
        "hardware.formats.",
        "hardware.graph.layer",
        "hardware.processors",
        "hardware.settings",
    )
}
PACKAGES = sorted(OURS - {"cli"})
SOURCES = [ROOT / "cli.py", *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]


def imported_modules(source: Path) -> set[str]:
    """Full names of the modules a file imports anywhere, functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_layer_may(source: Path) -> None:
    layer = source.relative_to(ROOT).with_suffix("").parts[0]
    for module in imported_modules(source):
        package = module.split(".")[0]
        allowed = package in MAY_IMPORT[layer] or module.startswith(SHARED.get(layer, ()))
        assert package not in OURS or allowed, f"{source} imports {module}"


def module_name(source: Path) -> str:
    return ".".join(source.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def module_graph() -> dict[str, set[str]]:
    """Module -> our modules it imports, those named in `from package import module` included."""
    names = {module_name(source): source for source in SOURCES}
    graph = {}
    for name, source in names.items():
        found = imported_modules(source)
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        graph[name] = (found & names.keys()) - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of modules that reach each other."""
    reached = {name: set(found) for name, found in graph.items()}
    for middle in graph:  # Warshall's closure
        for found in reached.values():
            if middle in found:
                found |= reached[middle]
    return {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in graph
        if name in reached[name]
    }


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d"}}
    assert circles(graph) == {frozenset("bc"), frozenset("d")}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Neither at the top, nor inside functions, nor for annotations alone."""
    assert not circles(module_graph())


@pytest.mark.parametrize("package", INSIDE)
def test_inside_a_package_imports_go_one_way(package: str) -> None:
    for name, found in module_graph().items():
        parts = name.split(".")
        if parts[0] != package or len(parts) < 2 or parts[1] not in INSIDE[package]:
            continue
        allowed = INSIDE[package][parts[1]] | {parts[1]}
        others = {
            m for m in found if m.startswith(f"{package}.") and m.split(".")[1] not in allowed
        }
        assert not others, f"{name} imports {sorted(others)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_can_be_taken_in_at_a_glance(package: str) -> None:
    for folder in [ROOT / package, *(p for p in (ROOT / package).rglob("*") if p.is_dir())]:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= (8 if folder == ROOT / "nas" else 15), folder


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["worker", "--help"]])
def test_help_is_quick_because_it_loads_no_framework(arguments: list[str]) -> None:
    code = (
        "import sys, cli\n"
        f"sys.argv = ['simqnas', *{arguments!r}]\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'sklearn', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
