# `make demo` and `make test` are all a newcomer needs; both set the environment up when it is missing.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: setup demo test check format lock clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "lumiwatch needs Python 3.11: install it, or say PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip==26.2"
	@echo "installing the locked dependencies (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	@deploy/system-packages.sh compiler
	@$(BIN)/lumiwatch demo $(ARGS)

test: setup
	@deploy/system-packages.sh compiler browser
	$(BIN)/python -m pytest $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	$(BIN)/pip-compile --quiet --strip-extras --extra dev --no-emit-find-links --no-emit-index-url --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist lumiwatch-demo
