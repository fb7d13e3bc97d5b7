# The one command surface. Every target does its own set-up: servers, virtual environment, npm packages, builds.
# Stamps in .cache/make keep the second run short.
#
# Settings, all optional:
#   PYTHON=python3.12       the interpreter of .venv
#   TRACE=path ACCESSES=n   what the demo replays
#   ARGS="-k name"          more arguments for one of test-rust, test-python, test-node, test-docs

PYTHON   ?= python3
TRACE    ?=
ACCESSES ?=
ARGS     ?=

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV    := .venv
STAMPS  := .cache/make
SERVERS := $(PYTHON) tools/servers.py
# What the programs leave behind goes with everything else that make made, not into the user's home.
export XDG_STATE_HOME := $(abspath .cache/state)
WITH_SERVERS := $(SERVERS) exec --

# The interpreter that pyo3's build script asks: ours, which is new enough, and not whatever `python3` is.
export PYO3_PYTHON := $(abspath $(VENV)/bin/python)
export CARGO_TARGET_DIR := $(abspath target)

# ---- help -----------------------------------------------------------------------------------------------------

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- demo -----------------------------------------------------------------------------------------------------

DEMO_ARGS := $(if $(TRACE),--trace '$(TRACE)') $(if $(ACCESSES),--accesses $(ACCESSES))

.PHONY: demo demo-node
demo: python-release ## replay feed traffic through the Python package (TRACE=path, ACCESSES=n)
	$(WITH_SERVERS) $(VENV)/bin/python benches/demo/replay.py $(DEMO_ARGS)

demo-node: node-release ## the same through the Node package
	$(WITH_SERVERS) node benches/demo/replay.mjs $(DEMO_ARGS)

# ---- test -----------------------------------------------------------------------------------------------------

.PHONY: test test-rust test-python test-node test-docs
test: test-rust test-python test-node test-docs ## everything, against real PostgreSQL and Redis

# The binding crates convert and nothing else; pytest and jest run them.
CORE := --workspace --exclude zmsg-python --exclude zmsg-node

test-rust: need-cargo ## the core
	@if cargo nextest --version >/dev/null 2>&1; then \
	    $(WITH_SERVERS) cargo nextest run $(CORE) $(ARGS) && \
	    $(if $(ARGS),true,$(WITH_SERVERS) cargo test $(CORE) --doc); \
	else \
	    $(WITH_SERVERS) cargo test $(CORE) $(ARGS); \
	fi

# What one language accepts runs in the other: a part of these tests starts Node.
test-python: python-debug node-debug ## pytest: the Python package, and the tools
	$(WITH_SERVERS) $(VENV)/bin/python -m pytest -n auto $(ARGS)

test-node: node-debug ## jest: the Node package
	cd node && $(PYTHON) ../tools/servers.py exec -- npx --no-install jest $(ARGS)

test-docs: python-debug node-debug ## the code blocks of README.md and docs/, and what the pages point at
	$(WITH_SERVERS) $(VENV)/bin/python -m pytest -n auto tests/docs $(ARGS)

# ---- lint -----------------------------------------------------------------------------------------------------

.PHONY: lint lint-rust lint-python lint-node fmt
lint: lint-rust lint-python lint-node ## formatters, linters and type checkers of all three languages

lint-rust: need-cargo $(VENV)/.ready
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

lint-python: python-debug
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	cd python && $(abspath $(VENV))/bin/python -m mypy.stubtest zmsg._native zmsg.sync

lint-node: node-debug
	npm run lint

fmt: need-cargo $(VENV)/.ready $(STAMPS)/npm ## rewrite the sources as `make lint` wants them
	cargo fmt --all
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .
	npm run format

# ---- bench ----------------------------------------------------------------------------------------------------

.PHONY: bench
bench: python-release node-release ## measure all three languages beside the raw crates
	$(WITH_SERVERS) $(VENV)/bin/python benches/run.py $(ARGS)

# ---- servers --------------------------------------------------------------------------------------------------

.PHONY: up down
up: ## start PostgreSQL and the two Redis, or check those named in the environment
	@$(SERVERS) up
	@$(SERVERS) status

down: ## stop what `make up` started; the data stay
	@$(SERVERS) down

# ---- builds ---------------------------------------------------------------------------------------------------

# Tests kill processes at named points; a release has none.
CRASHES = $(if $(filter debug,$*),--features crash-points)

# Both profiles of a binding are installed to the same place, so each stamp removes the other's.
RUST_COMMON   := $(wildcard Cargo.toml Cargo.lock .cargo/config.toml) $(shell find core schema -type f 2>/dev/null)
PYTHON_INPUTS := $(RUST_COMMON) $(shell find bindings/python -type f 2>/dev/null) pyproject.toml
NODE_INPUTS   := $(RUST_COMMON) $(shell find bindings/node -type f 2>/dev/null)
TS_INPUTS     := $(shell find node/src -type f 2>/dev/null) $(wildcard node/tsconfig*.json) node/package.json

.PHONY: build-python build-node python-debug python-release node-debug node-release
build-python: python-debug ## the Python package into .venv, editable, a debug build
build-node: node-debug ## the Node package into node/dist, a debug build

python-debug: $(STAMPS)/python-debug
python-release: $(STAMPS)/python-release ## the Python package, optimised: what to measure and deploy
node-debug: $(STAMPS)/node-debug $(STAMPS)/node-ts
node-release: $(STAMPS)/node-release $(STAMPS)/node-ts ## the Node package, optimised

$(STAMPS)/python-%: $(PYTHON_INPUTS) $(VENV)/.ready | need-cargo $(STAMPS)
	PIP_QUIET=1 $(VENV)/bin/maturin develop --quiet --locked --profile $(if $(filter debug,$*),dev,$*) $(CRASHES)
	@rm -f $(STAMPS)/python-* && touch $@

$(STAMPS)/node-debug $(STAMPS)/node-release: $(STAMPS)/node-%: $(NODE_INPUTS) tools/native_node.mjs | need-cargo need-node $(STAMPS)
	cargo build --locked --package zmsg-node --profile $(if $(filter debug,$*),dev,$*) $(CRASHES)
	@node tools/native_node.mjs $(CARGO_TARGET_DIR)/$* node/dist
	@rm -f $(STAMPS)/node-debug $(STAMPS)/node-release && touch $@

$(STAMPS)/node-ts: $(TS_INPUTS) $(STAMPS)/npm | $(STAMPS)
	npm run build
	@touch $@

$(STAMPS)/npm: package-lock.json package.json node/package.json .npmrc | need-node $(STAMPS)
	npm ci --no-progress
	@touch $@

$(VENV)/.ready: pyproject.toml tools/venv.py
	$(PYTHON) tools/venv.py $(VENV)
	@touch $@

$(STAMPS):
	@mkdir -p $@

.PHONY: need-cargo need-node
need-cargo:
	@command -v cargo >/dev/null || { echo "zmsg needs Rust: https://rustup.rs" >&2; exit 1; }

need-node:
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null || \
	    { echo "zmsg needs Node 20 or newer with npm; here: $$(node --version 2>&1 || true)" >&2; exit 1; }

# ---- clean ----------------------------------------------------------------------------------------------------

.PHONY: clean
clean: ## delete everything `make` made, the servers' data included
	@$(SERVERS) purge
	rm -rf .cache .servers $(VENV) target node_modules node/node_modules node/dist .pytest_cache .mypy_cache .ruff_cache
	find python -name '_native*.so' -delete 2>/dev/null || true
