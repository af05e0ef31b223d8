# Two commands are all that a newcomer needs: `make quickstart` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help quickstart test lint types unit bench serve clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

quickstart: $(STAMP) ## set up, fill results.db from the bundled models, print the board
	$(BIN)/robustboard quickstart

test: lint types unit ## set up, then lint, types and tests: what CI runs

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

unit: $(STAMP) ## the tests, on all processors
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not bench"

bench: $(STAMP) ## speed as ratios against the reference, one thread against one thread
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m bench -s -p no:cacheprovider tests/bench

serve: $(STAMP) ## the board at http://127.0.0.1:8000/
	$(BIN)/robustboard serve

clean: ## remove what was installed and cached; results stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# imagecorruptions asks for the GUI build of OpenCV, which needs libGL: it comes without its dependencies, and
# opencv-python-headless (a dependency of ours) stands in. Groups need pip 25.1.
$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --group reference
	touch $(STAMP)
