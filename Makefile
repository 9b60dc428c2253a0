# Two commands do everything on a fresh clone with Python 3.11 or newer: make demo, make test.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO_OUT := out/digits

.PHONY: help demo test check check-ray check-torch lint format schemas clean

help:
	@echo "make demo    compile the example model under a budget and print where the energy goes"
	@echo "make test    run the tests"
	@echo "make check   linters, types, room borders, then the tests"
	@echo "make check-torch  install PyTorch too, then the tests that need it;  make check-ray  Ray"
	@echo "make format  format the code;  make schemas  write the JSON schemas anew"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gcompile needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-torch: $(VENV)/.installed-dev
	$(PIP) -e '.[dev,torch,train]' 'transformers>=5'
	@touch $@

# Exit code 1 (a constraint is not met) fails the demo too.
demo: $(VENV)/.installed
	$(BIN)/gcompile examples/digits_cnn.onnx --target cpu --budget -60% --max-drop 1% \
		--calib examples/digits_calib.npz --eval examples/digits_eval.npz -o $(DEMO_OUT)
	$(BIN)/gcompile bench $(DEMO_OUT)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS)

check: lint test

# The other tests skip these where PyTorch is not installed.
check-torch: $(VENV)/.installed-torch
	$(BIN)/python -m pytest -n $(JOBS) -m torch

check-ray: $(VENV)/.installed-dev
	$(PIP) -e '.[ray]'
	$(BIN)/python -m pytest -m ray

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(VENV)/.installed-dev
	$(BIN)/python -m gcompile.report.schema

clean:
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
