# make demo       every step once, on synthetic images, in minutes
# make test       lint, types and tests (under 15 minutes on 2 cores)
# make test-slow  faults, real data and S3, and test-lowest (under 45 minutes)
# make test-lowest   some quick tests with the lowest versions of all packages (7 minutes)
# make test-soak  variations of the slow tests, and all quick tests with the lowest versions, before a release (an hour)
# make docs       the documentation as a site, in site/ (30 s)
# make audit      known vulnerabilities of the pinned versions; needs an index (30 s)
# Each target creates its own .venv beside the code; you need to install nothing else.

PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest
# The machine's own pip installs into .venv: Debian's Python has no ensurepip unless python3-venv is installed.
INSTALL := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check install --quiet -c constraints.txt
READY := .venv/.ready

# The many processes of a test read the package's bytecode instead of compiling it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-lowest test-soak audit docs lint format clean

demo: $(READY)
	$(BIN)/ssvq demo --out demo

test: $(READY) lint
	$(BIN)/pytest -m "not slow and not soak"

test-slow: $(READY) test-lowest
	$(BIN)/pytest -m "slow and not soak"

# Tests each package at the lowest version that pyproject.toml allows. One survey needs a cluster here; test-soak runs
# all tests that do.
test-lowest: $(LOWEST)/.ready
	HYPOTHESIS_PROFILE=lowest $(LOWEST)/bin/pytest -m "not slow and not soak and not browser" \
		tests/model tests/methods tests/imagery tests/results/test_query.py tests/scoring/test_same_values.py

test-soak: $(READY) $(LOWEST)/.ready
	$(BIN)/pytest -m soak
	HYPOTHESIS_PROFILE=lowest $(LOWEST)/bin/pytest -m "not slow and not soak and not browser" \
		--ignore=tests/test_outages.py --ignore=tests/test_nodes.py

audit: $(READY)
	$(BIN)/python .ci/audit.py

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The same tools run in .pre-commit-config.yaml.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# An unfinished environment has no .ready, and is created again.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear --without-pip .venv
	$(INSTALL) -e ".[dev,docs]"
	touch $@

$(LOWEST)/.ready: pyproject.toml .ci/lowest.py
	$(PYTHON) -m venv --clear --without-pip $(LOWEST)
	$(PYTHON) .ci/lowest.py > $(LOWEST)/lowest.txt
	$(PYTHON) -m pip --python $(LOWEST)/bin/python --disable-pip-version-check install --quiet -c $(LOWEST)/lowest.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv $(LOWEST) demo site example-output build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
