# `make demo` and `make test` need Python 3.11 or 3.12, git and make; everything else is installed into .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRANSACTIONS ?=
export KEEP ?=

.DEFAULT_GOAL := help
.PHONY: help demo test notebooks export lint format bench parity clean constraints

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else f"Python 3.11 or 3.12 is needed, PYTHON={sys.executable} is {v[0]}.{v[1]}: run make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet -c constraints.txt uv

$(VENV)/.app: pyproject.toml local_workspace/pyproject.toml constraints.txt | $(BIN)/uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[cli,notebooks]' -e ./local_workspace
	@touch $@

$(VENV)/.dev: $(VENV)/.app
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[cli,notebooks,optimize,dev]' -e ./local_workspace
	@touch $@

demo: $(VENV)/.app  ## decide card transactions end to end; TRANSACTIONS=my.csv for your own, KEEP=1 to leave it running
	@$(BIN)/sota-deploy demo $(if $(TRANSACTIONS),--transactions "$(TRANSACTIONS)") $(if $(filter-out 0,$(KEEP)),--keep)

test: $(VENV)/.dev  ## lint and every test, notebooks included
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest -n 2 --dist loadfile

notebooks: $(VENV)/.dev  ## run every notebook top to bottom against a local workspace
	@$(BIN)/python -m pytest nbs_tests/test_notebooks.py

export: $(VENV)/.dev  ## write lib from the notebooks
	@$(BIN)/nbdev-clean
	@$(BIN)/nbdev-export

lint: $(VENV)/.dev  ## ruff and the type checker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check app bench conftest.py local_workspace nbs_tests
	@$(BIN)/mypy

format: $(VENV)/.dev  ## let ruff write what it can
	@$(BIN)/ruff check --fix app bench conftest.py local_workspace nbs_tests
	@$(BIN)/ruff format app bench conftest.py local_workspace nbs_tests

bench: $(VENV)/.dev  ## the figures of README's table
	@$(BIN)/python -m bench

parity: $(VENV)/.dev  ## run the local workspace's tests and write its parity report from what they called
	@RECORD_PARITY=1 $(BIN)/python -m pytest -n 2 --dist loadfile local_workspace/tests

constraints: $(BIN)/uv  ## pin every dependency anew
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --all-extras pyproject.toml local_workspace/pyproject.toml constraints.in --output-file constraints.txt

clean:  ## remove the environment and the local workspace
	rm -rf $(VENV) .local_workspace
