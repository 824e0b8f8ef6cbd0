# One word per task. `make help` lists them.
#
# The environment lives in .venv and is made again only when pyproject.toml or native code changes.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run demo bench test tools sanitize fuzz lint types fmt clean

# The distribution's Python first: a gateway on one that pyenv built, which optimizes only when it is
# told to, costs a tenth more.
FITS := import sys, ensurepip, sysconfig, pathlib; \
  sys.exit(sys.version_info < (3, 11) or not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
PYTHON ?= $(shell /usr/bin/python3 -c '$(FITS)' 2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard relay/media/native/* relay/protocols/webrtc/native/*)
# Arguments for the program: make run ARGS="--host 0.0.0.0 --open"
ARGS ?=

help: ## list these words
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 17

run: $(VENV)/.installed ## install on first use, then start gateway, orchestrator and worker
	@exec $(BIN)/relay up $(ARGS)

demo: $(VENV)/.installed ## a generated clip through the whole network: out/demo.mp4, out/demo.png, delay
	@exec $(BIN)/relay demo $(ARGS)

bench: $(VENV)/.installed-dev ## run every short bench; the soaks are run by name (bench/soak_*.py)
	@exec $(BIN)/python -m bench $(ARGS)

test: tools $(VENV)/.installed-dev ## all checks: format, lint, types, tests; installs what they need
	@exec $(BIN)/python .ci/checks.py $(ARGS)

tools: ## look for the programs that the tests need; as root, install them
	@$(PYTHON) .ci/tools.py

sanitize: $(VENV)/.installed-dev ## the native code's tests under gcc's address and undefined behaviour sanitizers
	@exec $(BIN)/python .ci/sanitize.py $(ARGS)

fuzz: $(VENV)/.installed-dev ## ten minutes of clang's fuzzer on the native code (ARGS="--seconds 20": less)
	@exec $(BIN)/python .ci/fuzz.py $(ARGS)

lint: $(VENV)/.installed-dev ## ruff: format check and lint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.installed-dev ## mypy, strict
	@$(BIN)/mypy

fmt: $(VENV)/.installed-dev ## ruff: format and fix what can be fixed; write docs/relay.yaml anew
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/relay up --print-config > docs/relay.yaml

clean: ## remove the environment, caches and outputs
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage *.egg-info

$(VENV)/bin/python:
	@command -v $(PYTHON) > /dev/null || { echo "There is no $(PYTHON) here."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "relay needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Another one: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing. Type:  sudo apt-get install -y python3-venv"; exit 1; }
	@echo "Making the environment in $(VENV) with $(PYTHON) ($$($(PYTHON) --version 2>&1)) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(NATIVE) | $(VENV)/bin/python
	@echo "Installing relay and what it stands on (about 140 MB, once) ..."
	@$(BIN)/python -m pip install --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(NATIVE) | $(VENV)/bin/python
	@echo "Installing relay with its development tools (about 250 MB, once) ..." >&2
	@$(BIN)/python -m pip install --disable-pip-version-check --no-compile --editable '.[dev]' >&2
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null 2>&1 || true  # pip has one core do it
	@touch $@ $(VENV)/.installed
