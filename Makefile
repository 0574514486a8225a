# `make demo` and `make test` need Python >= 3.11 and nothing else: each makes .venv when it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an interrupted installation is started again.
STAMP := $(VENV)/.installed
PACKAGES := interactions a2mim experiments figures tests
# What is imported is compiled once and kept, also where the shell says otherwise: every command would compile it again.
# For the same reason pip compiles nothing: of what it installs more than half is never imported.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test docs lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     profile real ImageNet weights against random ones, train two small networks, plot all curves"
	@echo "make test     lint, format and type checks, then the tests"
	@echo "make docs     the documentation as a site, in site/"
	@echo "make lint     lint, format and type checks alone"
	@echo "make format   rewrite the code in the project's format"
	@echo "make clean    remove caches and build outputs (not .venv)"
	@echo "PYTHON=...    the interpreter that makes .venv, Python >= 3.11 (default: python3)"

demo: $(STAMP)
	$(BIN)/python -m experiments.studies.demo

# Two workers with one thread each: torch's own threads would only compete with the second worker. tests/conftest.py
# says which tests stay together and which begin.
test: lint
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadgroup --no-loadscope-reorder

# The site lies in site/. Its tools are an extra, which this installs beside the rest.
docs: $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet
	@echo "the site is site/index.html"

lint: $(STAMP)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix $(PACKAGES)
	$(BIN)/ruff format $(PACKAGES)

clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(PACKAGES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	  echo "this needs Python 3.11 or newer, and '$(PYTHON)' is older or does not run: make PYTHON=/path/to/python3" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/pip
	@echo "installing into $(VENV), some minutes the first time"
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile --editable ".[demo,test]"
	@touch $@
