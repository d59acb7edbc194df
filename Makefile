# Each target can be the first command after a clone: it sets up what it needs, once.
#   make test PYTEST_ARGS="-k gaussian"         some of the tests
#   make test CONSTRAINTS=/dev/null             the newest versions instead of the pinned ones

PYTHON      ?= $(shell command -v python3.11 || command -v python3)
CONSTRAINTS ?= constraints.txt
PYTEST_ARGS ?=
VENV        ?= .venv
BIN         := $(VENV)/bin

.PHONY: demo test lint bench docs check versions
.PRECIOUS: $(VENV)/.installed-%
.NOTPARALLEL:

demo: $(VENV)/.installed-demo
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 8 --durations 30 $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-bench
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/density.py

# -a writes all pages: the search would lose the index entries of those that are left.
docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -a -W --keep-going -q docs docs/_build/html

check: lint docs $(VENV)/.installed-test $(VENV)/.installed-browser versions
	$(BIN)/python -m pytest -q -m "" --numprocesses auto --maxprocesses 8 --durations 30 $(PYTEST_ARGS)

# The tests with the oldest and the newest scikit-learn, numpy and skorch, each in an environment
# of its own, with the pinned torch.
versions:
	$(MAKE) test VENV=.venv-oldest CONSTRAINTS=.github/constraints-oldest-cpu.txt
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=.github/constraints-newest-cpu.txt

# One stamp per dependency group of pyproject.toml; a change there or in the pins installs again.
$(VENV)/.installed-%: pyproject.toml $(CONSTRAINTS) | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable . --group $*
	@touch $@

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@
