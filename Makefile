# make serve   the service with its page, on http://127.0.0.1:8000/
# make test    the tests
# make check   style, types and one-way imports
# make bench   the benchmarks
#
# Each sets up all that it needs on a fresh machine, in .venv. Variables:
#   TORCH=cpu        the small CPU build of torch from PyTorch's own index (cu126, cu128 ... work alike)
#   PYTHON=python3   the interpreter to begin with, 3.11 or later
#   PORT=8000        where `make serve` listens

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
TORCH ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: serve test check bench clean

serve: $(VENV)/.serve-installed
	$(BIN)/captioner serve --port $(PORT)

test: $(VENV)/.dev-installed
	$(BIN)/python -m pytest

check: $(VENV)/.dev-installed
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev-installed
	@set -e; for benchmark in tests/benchmarks/bench_*.py; do \
		echo "== $$benchmark"; $(BIN)/python "$$benchmark"; \
	done

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The stamps are older than pyproject.toml when it has changed: then pip looks again, which is quick.
$(VENV)/.dev-installed: pyproject.toml | $(VENV)/.torch-installed
	$(PIP) --editable '.[dev]'
	touch $(VENV)/.serve-installed $@

$(VENV)/.serve-installed: pyproject.toml | $(VENV)/.torch-installed
	$(PIP) --editable .
	touch $@

$(VENV)/.torch-installed: | $(BIN)/python
ifneq ($(TORCH),)
	$(PIP) --index-url https://download.pytorch.org/whl/$(TORCH) torch torchvision
endif
	touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "captioner needs Python 3.11 or later: name one with make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment: on Debian install python3-venv" >&2; exit 1; }
