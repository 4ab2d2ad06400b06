# Stampede. `make help` lists what there is; nothing but Python 3.11+ and make is needed for it.
PYTHON ?= python3
PORT ?= 8000
HOST ?= 127.0.0.1
DATA ?= ./var
FLOWER_PORT ?= $(shell expr $(PORT) + 1000)
SECONDS ?= 60
JOBS ?= 5000
SEED ?=

VENV := .venv
PY := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make up takes PORT=8000 HOST=127.0.0.1 DATA=./var FLOWER_PORT=9000"

.PHONY: up
up: $(RUNTIME) ## Run everything on this machine until Ctrl-C
	@exec $(PY) -m deploy.cli --data "$(DATA)" up --host $(HOST) --port $(PORT) --flower-port $(FLOWER_PORT)

.PHONY: demo
demo: $(RUNTIME) ## See one sample letter stamped by the running copy
	@$(PY) -m deploy.cli --data "$(DATA)" demo

.PHONY: test
test: $(DEVELOPMENT) ## Test all that needs no system packages
	$(PY) -m pytest -m "not system"

.PHONY: test-all
test-all: $(DEVELOPMENT) ## Install pdfsig, qpdf, Chromium and SoftHSM, and test what needs them
	@sh .ci/system-packages
	$(PY) -m pytest -m system

.PHONY: bench
bench: $(DEVELOPMENT) ## Measure the engine, the whole pipeline, intake, polls, waiting, fairness, money and the audit
	$(PY) -m tests.bench.engine
	$(PY) -m tests.bench.keys
	$(PY) -m tests.bench.levels
	$(PY) -m tests.bench.corpus
	$(PY) -m tests.bench.pipeline
	$(PY) -m tests.bench.accepting
	$(PY) -m tests.bench.stamping
	$(PY) -m tests.bench.intake
	$(PY) -m tests.bench.polls
	$(PY) -m tests.bench.waiting
	$(PY) -m tests.bench.depth
	$(PY) -m tests.bench.fairness
	$(PY) -m tests.bench.ledger
	$(PY) -m tests.bench.serials
	$(PY) -m tests.bench.vouchers
	$(PY) -m tests.bench.audit

.PHONY: fuzz
fuzz: $(DEVELOPMENT) ## Seal mutated documents for SECONDS=60 and hold every result to account
	$(PY) -m tests.fuzz --seconds $(SECONDS)

.PHONY: faults
faults: $(DEVELOPMENT) ## Kill, cut and fill what there is over JOBS=5000 jobs (SEED=…), then judge
	$(PY) -m tests.faults --jobs $(JOBS) $(if $(SEED),--seed $(SEED)) --full

.PHONY: lint
lint: $(DEVELOPMENT) ## Check format, style, types and the direction of imports
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

.PHONY: format
format: $(DEVELOPMENT) ## Format the code
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

.PHONY: lock
lock: ## Lock the newest versions that pyproject.toml allows (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --no-annotate --extra local --extra dev pyproject.toml -o requirements-dev.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --no-annotate --extra local -c requirements-dev.lock pyproject.toml -o requirements.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-header --no-annotate -c requirements-dev.lock pyproject.toml -o requirements-image.lock

.PHONY: clean
clean: ## Remove the virtual environment; the data folder stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(PY):
	@echo "making the virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Stampede needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	    { echo "Python's venv module is not complete here; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(RUNTIME): requirements.lock | $(PY)
	@echo "installing what requirements.lock names (once)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s/$(PY)" -m deploy.cli "$$@"\n' "$(CURDIR)" "$(CURDIR)" \
	    > $(VENV)/bin/stampede
	@chmod +x $(VENV)/bin/stampede
	@touch $@

$(DEVELOPMENT): requirements-dev.lock $(RUNTIME)
	@echo "installing what requirements-dev.lock names (once)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
