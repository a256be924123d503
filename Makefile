# make demo   the whole story on text found on this machine; prints where the report is
# make test   all tests          make lint   style and types          make bench   benchmarks
#
# PYTHON=python3.12  another interpreter        VENV=dir   another place for the virtual environment
# BROWSER=no         do not install Chromium for the tests of the report page

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
DEMO ?= karat-demo
BROWSER ?= auto
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: help demo test lint format types docs bench browser clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \?//p' Makefile | head -5

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v < (3, 14) or sys.exit("karat needs Python 3.10 to 3.13, but %s is %d.%d; name another with: make ... PYTHON=python3.12" % ((sys.executable,) + v))'
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone, so that a CPU wheel that pip already knows of is taken
# instead of the newest build with several GB of CUDA libraries.
$(VENV)/.torch: $(BIN)/python
	@echo "installing $(TORCH) into $(VENV)"
	@$(PIP) install "$(TORCH)"
	@touch $@

# The stamps are older than pyproject.toml only when it has changed: the second run installs nothing.
$(VENV)/.demo: pyproject.toml $(VENV)/.torch
	@echo "installing karat[torch] into $(VENV)"
	@$(PIP) install -e ".[torch]"
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	@echo "installing karat[torch,dev] into $(VENV)"
	@$(PIP) install -e ".[torch,dev]"
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/karat demo --out $(DEMO)

# Without a browser the tests that open the report page are skipped, and say so.
browser:
	@if [ "$(BROWSER)" = no ] || command -v chromium >/dev/null 2>&1; then :; \
	elif command -v apt-get >/dev/null 2>&1 && [ "$$(id -u)" = 0 ]; then \
		echo "installing Chromium for the tests of the report page (BROWSER=no leaves it out)"; \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			chromium chromium-driver) >/dev/null 2>&1 || echo "Chromium could not be installed; its tests are skipped"; \
	fi

test: $(VENV)/.dev browser
	$(BIN)/python -m pytest -q

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

types: $(VENV)/.dev
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the pages that the program itself writes; a test says when they are old
docs: $(VENV)/.dev
	$(BIN)/python docs/write.py

bench: $(VENV)/.dev
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache $(DEMO)
