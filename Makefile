# Two commands: `make serve` and `make test`. Both set up what they need and are quick the second time.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMPS := $(VENV)/stamps
UV = $(shell command -v uv || echo $(BIN)/uv)

.DEFAULT_GOAL := help
.PHONY: help serve test lint types layers check lock clean

help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

serve: $(STAMPS)/serve  ## Run the server with real recognition on the CPU
	STT_BACKEND=$${STT_BACKEND:-pocketsphinx} $(BIN)/python app.py

test: $(STAMPS)/dev  ## Run the tests
	$(BIN)/python -m pytest

check: lint types layers  ## Lint, types and layers

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMPS)/dev
	$(BIN)/mypy
	$(BIN)/mypy app.py config.py

layers: $(STAMPS)/dev
	$(BIN)/lint-imports --no-cache

lock: $(STAMPS)/venv  ## Pin the newest versions that pyproject.toml allows
	$(UV) pip compile -q --upgrade --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --extra pocketsphinx pyproject.toml -o requirements/serve.txt
	$(UV) pip compile -q --upgrade --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --extra pocketsphinx --group dev -c requirements/serve.txt pyproject.toml -o requirements/dev.txt

clean:  ## Remove what was set up
	rm -rf $(VENV)

# A virtual environment, and uv inside it where the machine has none.
$(STAMPS)/venv:
	@if command -v uv >/dev/null; then uv venv -q --allow-existing --python '>=3.11' $(VENV); \
	else $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install -q uv; fi
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/serve: requirements/serve.txt | $(STAMPS)/venv
	$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/serve.txt
	@touch $@

$(STAMPS)/dev: requirements/dev.txt | $(STAMPS)/venv
	$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@
