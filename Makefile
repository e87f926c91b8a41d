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

# One worker more than there are processors, because tests often wait for processes that they have started.
WORKERS = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
TORCH_STAMP := $(if $(TORCH),$(VENV)/.torch-$(TORCH))

.PHONY: serve test check bench clean

serve: $(VENV)/.serve-installed
	$(BIN)/captioner serve --port $(PORT)

test: $(VENV)/.dev-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev-installed
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev-installed
	@failed=0; for benchmark in tests/benchmarks/bench_*.py; do \
		echo "== $$benchmark"; $(BIN)/python "$$benchmark" || failed=1; \
	done; exit $$failed

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The stamps are older than pyproject.toml or than torch when these have changed: then pip looks again, which is quick.
$(VENV)/.dev-installed: pyproject.toml $(TORCH_STAMP) | $(VENV)/.made
	$(PIP) --editable '.[dev]'
	touch $(VENV)/.serve-installed $@

$(VENV)/.serve-installed: pyproject.toml $(TORCH_STAMP) | $(VENV)/.made
	$(PIP) --editable .
	touch $@

# The stamp names the build, so that another TORCH replaces the one that is there; without TORCH, whatever is there stays.
$(VENV)/.torch-%: | $(VENV)/.made
	rm -f $(VENV)/.torch-*
	$(BIN)/python -m pip uninstall --yes torch torchvision
	$(PIP) --index-url https://download.pytorch.org/whl/$* torch torchvision
	touch $@

# An environment whose pip does not work, because its making was interrupted, is made anew.
$(VENV)/.made:
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
			{ echo "captioner needs Python 3.11 or later: name one with make PYTHON=python3.11" >&2; exit 1; }; \
		$(PYTHON) -m venv --clear $(VENV) || \
			{ echo "$(PYTHON) cannot make a virtual environment: on Debian install python3-venv" >&2; exit 1; }; \
	}
	@touch $@
