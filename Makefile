# make run    install, then the main job on a small data set; says where its report is
# make test   install with the test tools, run the tests
# make check  formatting, lint, types, layers
# make cluster       a throwaway Kubernetes cluster of two nodes (needs root; docs/test-cluster.md)
# make cluster-down  end it
# make test-e2e      tests on the cluster of KUBECONFIG, or on the throwaway one
# make bench  hot paths of the harness, and the loader beside fio, torch and SPDL
# make clean  remove what the above left behind, data sets and results apart
# make lock   pin the dependencies anew (needs uv)

PYTHON3 ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Bytecode next to the sources is all that a run leaves in the tree beyond what git ignores.
PYTEST_ARGS ?=

RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help run test check bench clean lock cluster cluster-down test-e2e

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

# The dev lock holds the runtime lock, at the same versions: either stamp serves `make run`.
$(RUNTIME): requirements.lock pyproject.toml scripts/install
	@if [ -e $(DEV) ] && [ ! requirements-dev.lock -nt $(DEV) ] && [ ! pyproject.toml -nt $(DEV) ]; then :; \
	else echo "Installing into $(VENV) (about a minute the first time)"; \
	sh scripts/install $(VENV) requirements.lock $(PYTHON3); fi
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml scripts/install
	@echo "Installing into $(VENV), with the test tools"
	@sh scripts/install $(VENV) requirements-dev.lock $(PYTHON3)
	@touch $@

run: $(RUNTIME)
	$(BIN)/bench run smoke -s local-dir --dataset-size 1400MiB --repeats 3 --duration 8

test: $(DEV)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The cluster's own scripts need nothing installed: WITH="moosefs s3" adds servers to it.
cluster:
	@$(PYTHON3) -m tests.cluster up $(WITH:%=--with %)

cluster-down:
	@$(PYTHON3) -m tests.cluster down

test-e2e: $(DEV)
	@[ -n "$$KUBECONFIG" ] || $(PYTHON3) -m tests.cluster up $(WITH:%=--with %)
	$(BIN)/python -m pytest -m cluster tests/e2e/cluster $(PYTEST_ARGS)

bench: $(DEV)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# No addresses, no paths of the machine that made them; Linux wheels of any Python >= 3.11.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate pyproject.toml --group build
lock:
	@for kind in requirements requirements-dev requirements-gpu; do \
		case $$kind in \
		requirements) group= ;; \
		requirements-dev) group="--group dev --constraint requirements.lock" ;; \
		requirements-gpu) group="--extra gpu --constraint requirements.lock" ;; \
		esac; \
		$(LOCK) $$group > $$kind.tmp || exit 1; \
		{ sed '/^[^#]/,$$d' $$kind.lock; cat $$kind.tmp; } > $$kind.new; \
		rm $$kind.tmp; mv $$kind.new $$kind.lock; done
