# Each target can be the first command after a clone: it sets up what it needs, once.
#   make test PYTEST_ARGS="-k gaussian"         some of the tests
#   make test CONSTRAINTS=/dev/null             the newest versions instead of the pinned ones

PYTHON      ?= $(shell command -v python3.11 || command -v python3)
CONSTRAINTS ?= constraints.txt
PYTEST_ARGS ?=
BIN         := .venv/bin

.PHONY: demo test lint bench docs check
.PRECIOUS: .venv/.installed-%
.NOTPARALLEL:

demo: .venv/.installed-demo
	$(BIN)/python examples/demo.py

test: .venv/.installed-test
	$(BIN)/python -m pytest -q $(PYTEST_ARGS)

lint: .venv/.installed-lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.installed-bench
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/density.py

docs: .venv/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html

check: lint docs .venv/.installed-test
	$(BIN)/python -m pytest -q -m "" $(PYTEST_ARGS)

# One stamp per dependency group of pyproject.toml; a change there or in the pins installs again.
.venv/.installed-%: pyproject.toml $(CONSTRAINTS) | .venv/.made
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable . --group $*
	@touch $@

.venv/.made:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@
