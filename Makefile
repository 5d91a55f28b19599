# Commands of this repository: `make` lists them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
DEV_LOCK := requirements/dev.lock
# Names the environment by what it is made from: a change of either file makes a new one due.
VENV := .venv/.made-from-$(shell cat $(DEV_LOCK) pyproject.toml | cksum | cut -d' ' -f1)
SOURCES := $(wildcard kaito tests benchmarks)
EXAMPLES := examples
# A file stays with one worker, since its tests share a manager; more workers than four are more control planes than gain.
PARALLEL = --numprocesses auto --maxprocesses 4
PYTEST = $(BIN)/python -m pytest $(PARALLEL) --dist loadfile
# Writes the lock files and is no part of the environment. They cover what the tests, the manager and the inference server
# need; the tuning extra gets a lock of its own with the step that brings its image.
UV := .venv/uv-0.13.9
COMPILE = $(UV)/bin/uv pip compile pyproject.toml --quiet --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.PHONY: help setup quickstart test test-unit test-integration chaos bench lint format lock crds rbac reference wheel wheelhouse wheelhouse-inference clean

help: ## List the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 26

setup: $(VENV) ## Virtual environment in .venv and control-plane binaries; seconds when warm, no root
	@$(BIN)/kaito devcluster binaries

quickstart: setup ## From nothing to an answer of a model on this machine, then clean up
	@$(BIN)/kaito quickstart

test: $(VENV) lint ## Lint, unit tests and integration tests
	@tiers=tests; \
	if ! $(BIN)/kaito devcluster binaries; then \
		if [ "$${CI:-}" = true ]; then echo "test: CI needs the integration tier; see above why it cannot run" >&2; exit 1; fi; \
		echo "test: integration tier skipped: no control-plane binaries, see above why"; tiers=tests/unit; \
	fi; \
	$(PYTEST) $$tiers

test-unit: $(VENV) ## Unit tests only: no control plane, no network
	@$(PYTEST) tests/unit

test-integration: setup ## Integration tests only: a real control plane on loopback
	@$(PYTEST) tests/integration

chaos: setup ## The long runs: the manager killed at every write, sixty failovers
	@$(BIN)/python -m pytest $(PARALLEL) --dist load -m chaos tests/chaos

bench: setup ## All benchmarks, with their targets; an hour, on a machine that does nothing else
	@$(BIN)/python -m benchmarks.startup
	@$(BIN)/python -m benchmarks.ingest
	@$(BIN)/python -m benchmarks.reconcile
	@$(BIN)/python -m benchmarks.failover
	@$(BIN)/python -m benchmarks.serving
	@$(BIN)/python -m benchmarks.sync
	@$(BIN)/python -m benchmarks.sync --status-patch --skip-kopf --churn-s 0

lint: $(VENV) ## ruff, mypy --strict and the import contracts
	@$(BIN)/ruff check --quiet $(SOURCES) $(EXAMPLES)
	@$(BIN)/ruff format --quiet --check $(SOURCES) $(EXAMPLES) || { echo "lint: run make format" >&2; exit 1; }
	@$(BIN)/mypy --strict $(SOURCES)
	@cd $(EXAMPLES) && ../$(BIN)/mypy --strict --config-file ../pyproject.toml .
	@$(BIN)/lint-imports --no-logo

format: $(VENV) ## Format the code and mend what ruff can mend
	@$(BIN)/ruff format $(SOURCES) $(EXAMPLES)
	@$(BIN)/ruff check --fix $(SOURCES) $(EXAMPLES)

lock: $(VENV) $(UV) ## Pin what pyproject.toml asks for, with hashes; UPGRADE=1 takes newer versions
	@echo "lock: $(DEV_LOCK)"
	@$(COMPILE) --extra cli --extra inference --extra testing --extra uvloop --group dev --output-file $(DEV_LOCK)
	@echo "lock: requirements/manager.lock"
	@$(COMPILE) --extra cli --extra uvloop --constraint $(DEV_LOCK) --no-annotate --output-file requirements/manager.lock
	@echo "lock: requirements/inference.lock"
	@$(COMPILE) --extra inference --extra uvloop --constraint $(DEV_LOCK) --no-annotate \
		--output-file requirements/inference.lock

crds: $(VENV) ## Generate deploy/crds from the API types
	@$(BIN)/python -m kaito crds --output deploy/crds

rbac: $(VENV) ## Generate deploy/rbac.yaml from what the controllers declare
	@$(BIN)/python -m kaito rbac > deploy/rbac.yaml

reference: $(VENV) ## Write docs/reference.md from the docstrings
	@$(BIN)/python docs/reference.py > docs/reference.md

wheel: $(VENV) ## Build the wheel into dist/
	@$(BIN)/python -m build --wheel --no-isolation

wheelhouse: wheel ## What the Dockerfile installs from: the wheel and its locked dependencies
	@rm -rf wheelhouse && mkdir wheelhouse
	@$(BIN)/pip download --quiet --only-binary :all: --require-hashes --dest wheelhouse -r requirements/manager.lock
	@cp dist/*.whl wheelhouse/

# TORCH=cuda: as locked, 3 GB; cpu: the wheel of CPU=URL, an index of the PyTorch project's; none: the base image has it.
TORCH ?= cuda
INFERENCE_WHEELS := wheelhouse-inference
wheelhouse-inference: wheel ## The same for --target inference; TORCH=cpu CPU=URL, or TORCH=none, without CUDA's 3 GB
	@rm -rf $(INFERENCE_WHEELS) && mkdir $(INFERENCE_WHEELS)
	@case "$(TORCH)" in \
	cuda) cp requirements/inference.lock $(INFERENCE_WHEELS)/;; \
	cpu) test -n "$(CPU)" || { echo "wheelhouse-inference: TORCH=cpu needs CPU=URL, an index with CPU wheels" >&2; exit 1; }; \
		$(BIN)/pip download --quiet --no-deps --only-binary :all: --index-url "$(CPU)" --dest $(INFERENCE_WHEELS) \
			"$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements/inference.lock)"; \
		$(BIN)/python requirements/without_torch.py $(INFERENCE_WHEELS)/torch-*.whl > $(INFERENCE_WHEELS)/inference.lock;; \
	none) $(BIN)/python requirements/without_torch.py > $(INFERENCE_WHEELS)/inference.lock;; \
	*) echo "wheelhouse-inference: TORCH is cuda, cpu or none, not $(TORCH)" >&2; exit 1;; \
	esac
	@$(BIN)/pip download --quiet --only-binary :all: --require-hashes --find-links $(INFERENCE_WHEELS) --no-deps \
		--dest $(INFERENCE_WHEELS) -r $(INFERENCE_WHEELS)/inference.lock
	@cp dist/*.whl $(INFERENCE_WHEELS)/

clean: ## Remove what builds and tests leave; .venv and the control-plane binaries stay
	@rm -rf dist build site wheelhouse wheelhouse-inference .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "setup: kaito needs Python 3.11 or newer; run: make setup PYTHON=python3.11" >&2; exit 1; }
	@echo "setup: virtual environment in .venv"
	@$(PYTHON) -m venv .venv
	@echo "setup: locked dependencies (3 GB the first time, most of it torch)"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes -r $(DEV_LOCK) \
		| sed -u "/^Requirement already satisfied/d; /^Ignoring /d; s/^\(.\{100\}\).*/\1 …/"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@rm -f .venv/.made-from-* && touch $@

$(UV):
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --target $@ uv==$(subst .venv/uv-,,$@)
