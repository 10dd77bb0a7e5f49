"""The import rule: data flows one way, so imports do."""

from __future__ import annotations

import ast
import subprocess
import sys
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
SHARED_TYPES = {"supernets": {"hardware.files", "hardware.formats.precision"}}
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
        allowed = package in MAY_IMPORT[layer] or module in SHARED_TYPES.get(layer, set())
        assert package not in OURS or allowed, f"{source} imports {module}"


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
