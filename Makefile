# Two commands: `make run` and `make test`. Each makes .venv and installs what it needs, once.

PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run train test test-long test-photographs screenshots demo check audit format clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 20

run: .venv/installed ## the explorer, in the browser
	$(BIN)/python -m explorer

train: .venv/installed ## the default run without a browser: drawn birds, 10 % of the labels
	$(BIN)/python -m sam_core train --preset quick

test: .venv/installed-dev ## every test that takes seconds; those of the page need a Chromium
	$(BIN)/python -m pytest

test-long: .venv/installed-dev ## the tests that take minutes to hours
	$(BIN)/python -m pytest -m long

test-photographs: .venv/installed-dev ## real photographs: SAM_PHOTOGRAPHS=a folder with flowers17/, cub25/ and released_image_lists/
	$(BIN)/python -m pytest -m photographs

screenshots: .venv/installed-dev ## every view, light, dark and narrow, into build/screenshots
	$(BIN)/python -m pytest tests/explorer/browser/test_screenshots.py

demo: .venv/installed ## record checkpoints/demo anew
	$(BIN)/python -m explorer.demo

check: .venv/installed-dev ## format and lint, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

audit: .venv/installed-dev ## known weaknesses in what is installed, asked of the Python Packaging Advisory Database
	$(BIN)/python -m pip freeze --exclude-editable > .venv/frozen.txt
	test -x .venv/audit/bin/pip-audit || ($(PYTHON) -m venv .venv/audit && .venv/audit/bin/python -m pip install --quiet 'pip-audit>=2.9,<3')
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv/frozen.txt

format: .venv/installed-dev ## put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment and what tools left behind
	rm -rf .venv .pytest_cache .ruff_cache

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4) and "Python 3.11.4 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

.venv/installed-dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	@touch .venv/installed $@
