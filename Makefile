# `make demo` and `make test` are all a newcomer needs; both set the environment up when it is missing.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Three processes, for many tests wait, a file of tests at a time, in the order of the folders; what ARGS says comes
# later and wins. Each computes in one thread, for two of two would wait for each other.
WORKERS := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test bench bench-drift check format lock clean

help:
	@echo "make demo  [ARGS=--auto-approve]   the whole loop on this machine"
	@echo "make test  [ARGS=tests/hw]         every test; ARGS='-n 0 --pdb tests/hw' in one process"
	@echo "make bench [ARGS='--write fill']   how fast it is, each number with its baseline"
	@echo "make bench-drift [ARGS=judge]      what it finds, how soon, how often in vain, beside other tools"
	@echo "make check                         formatting, lint, types, import rules, the lock"
	@echo "make format | lock | clean"

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "lumiwatch needs Python 3.11: install it, or say make PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV) (one to three minutes) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	@deploy/system-packages.sh compiler
	@$(BIN)/lumiwatch demo $(ARGS)

test: setup
	@deploy/system-packages.sh compiler browser database alertmanager promtool ghdl
	@deploy/test-data.sh $(VENV)
	TMPDIR=$$(deploy/test-folder.sh) OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) $(ARGS)

bench: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.run $(ARGS)

bench-drift: setup
	$(BIN)/python -m tests.benchmarks.drift.run $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pip check --disable-pip-version-check

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The lock names public versions only (`torch==2.13.0`, not a local build of it).
lock: setup
	$(BIN)/pip-compile --quiet --allow-unsafe --strip-extras --extra dev --extra toolchains --no-annotate --no-emit-find-links --no-emit-index-url \
	  --no-emit-trusted-host --output-file requirements.lock pyproject.toml
	sed -i -E 's/^(torch==[0-9.]+)\+cpu$$/\1/' requirements.lock

clean:
	rm -rf $(VENV) .venv-peers .venv-uhal build dist lumiwatch-demo
