# Everything runs in .venv; no other setup is needed than Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BESIDE := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder
AGAIN := $(BIN)/python tests/again.py

.PHONY: help setup demo test check bench format docs clean

help:
	@echo "make demo    set up, then run a gateway, a mesh and a small shop on this machine"
	@echo "make test    set up, then run the tests (real Envoys; a few minutes)"
	@echo "make check   format, lint, types"
	@echo "make bench   measure"
	@echo "make docs    write the generated reference pages anew"

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Isthmus needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/isthmus demo $(ARGS)

# Most tests wait for processes to start; what makes claims about load runs with one other. Files are taken in the order of
# tests/conftest.py. What fails beside others is asked once more with the machine to itself, and shown: a machine that is too busy
# is no fault of the code's.
test: setup
ifeq ($(ARGS),)
	$(BESIDE) -n 4 -m "not alone" || $(AGAIN)
	$(BESIDE) -n 2 -m alone || $(AGAIN)
else
	$(BIN)/python -m pytest $(ARGS)
endif

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m bench $(ARGS)

docs: setup
	$(BIN)/python -m isthmus.cli.reference docs/reference

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
