# Two commands matter: `make run` and `make test`. Both set up .venv first if it is not there.
.DEFAULT_GOAL := help
.PHONY: help setup run test lint format lock clean

# The environment can lie elsewhere: LENGTHWISE_VENV=/big/disk/venv make run
BIN := $(or $(LENGTHWISE_VENV),.venv)/bin
CONFIG ?= configs/demo.yaml
TEST ?= tests
VERSIONS ?= 3.11 3.12 3.13

help:  ## Show this list
	@echo "lengthwise: make TARGET"
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

setup:  ## Build .venv, or leave it alone if it is up to date
	@sh scripts/setup.sh

run: setup  ## Run the pipeline; CONFIG=configs/demo.yaml unless you say otherwise
	@$(BIN)/lengthwise run $(CONFIG)

test: lint  ## Check style, types and import contract, then run the tests (TEST=tests/schemas)
	$(BIN)/python -m pytest $(TEST)

lint: setup  ## ruff, mypy and the import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## Let ruff sort imports and lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup  ## Resolve setup.py's ranges again into requirements/*.lock (VERSIONS="3.11 3.12")
	@sh scripts/lock.sh --upgrade $(VERSIONS)

clean:  ## Remove .venv and what the tools left; runs are kept
	rm -rf .venv .venv.lock .venv.discarded build dist lengthwise.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -rf .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
