# Two commands: `make run` and `make test`. Each makes .venv and installs what it needs, once.

PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test test-long test-photographs check format clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 20

run: .venv/installed ## the default run: drawn birds, 10 % of the labels
	$(BIN)/python -m sam_core train --preset quick

test: .venv/installed-dev ## every test that takes seconds
	$(BIN)/python -m pytest

test-long: .venv/installed-dev ## the tests that take minutes to hours
	$(BIN)/python -m pytest -m long

test-photographs: .venv/installed-dev ## real photographs: SAM_PHOTOGRAPHS=a folder with train/ and test/
	$(BIN)/python -m pytest -m photographs

check: .venv/installed-dev ## format and lint, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: .venv/installed-dev ## put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and what tools left behind
	rm -rf .venv .pytest_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

.venv/installed-dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	@touch .venv/installed $@
