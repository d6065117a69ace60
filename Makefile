# `make demo`: environment, install, the built-in study, its report. `make test`: environment, install, lint, types, tests.
# Tests run side by side, a process for each core, at most 8, with one thread each.
# pip's own settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, pip.conf) choose the torch build.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types

.venv/run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

.venv/dev: .venv/run
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/run
	$(BIN)/paribus run decoder-only --out runs/decoder-only

test: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadscope
