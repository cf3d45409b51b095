# make demo       everything once, on synthetic images, in minutes
# make test       lint, types and tests (under 15 minutes on 2 cores)
# make test-slow  faults, real data and S3 (under 45 minutes)
# make audit      known faults of the pinned versions, where an index can be asked (30 s)
# Each sets up its own .venv beside the code; nothing else needs to be installed.

PYTHON ?= python3
BIN := .venv/bin
# The machine's own pip installs into .venv: Debian's Python has no ensurepip unless python3-venv is installed.
INSTALL := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check install --quiet -c constraints.txt
READY := .venv/.ready

.PHONY: demo test test-slow audit lint format clean

demo: $(READY)
	$(BIN)/ssvq demo --out demo

test: $(READY) lint
	$(BIN)/pytest -m "not slow"

test-slow: $(READY)
	$(BIN)/pytest -m slow

audit: $(READY)
	$(BIN)/python .ci/audit.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A half-made environment has no .ready, and is made again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear --without-pip .venv
	$(INSTALL) -e ".[dev]"
	touch $@

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
