# `make demo` and `make test` need Python 3.11 or newer and nothing else: they make .venv first.

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; print(sys.executable) if sys.version_info >= (3, 11) else exit(1)' 2>/dev/null)))
BIN := .venv/bin

.PHONY: demo test lint

demo: .venv/installed
	$(BIN)/simqnas run examples/digits_vit.yaml

test: .venv/installed
	$(BIN)/python -m pytest -n 2

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "simqnas needs Python 3.11 or newer; none was found (set PYTHON=/path/to/python3)"; exit 2; }
	$(PYTHON) -m venv .venv || { echo "python3 -m venv failed; on Debian and Ubuntu install the package python3-venv"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
