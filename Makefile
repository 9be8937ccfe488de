# Start here: `make run`, `make test`. Only needs Python 3.11 or newer.
.PHONY: run test nightly lint docs reference package lock bench clean

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check --no-input
# Only locked packages are installed, verified by hash; billhook is built with locked tools.
INSTALL := $(PIP) install --require-hashes --no-deps
INSTALL_BILLHOOK := $(PIP) install --no-deps --no-build-isolation -e .
COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" pyproject.toml

run: .venv/run.stamp
	@$(BIN)/billhook dev --with-history

test: .venv/test.stamp
	@$(BIN)/pytest -n $${PYTEST_WORKERS:-auto} --dist worksteal

# Every case, and 2,000 examples of each property. Takes hours.
nightly: .venv/test.stamp
	@HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -n $${PYTEST_WORKERS:-auto} --dist worksteal

lint: .venv/test.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry src
	@PYTHONPATH=docs $(BIN)/python -m prose

# The site, in site/. Dead links and pages missing in the menu fail. Links are relative, so that the
# site can also be opened from its folder.
docs: .venv/docs.stamp
	@NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

# The parts of docs/reference/ that are generated from the code; a test fails if they are out of date.
reference: .venv/test.stamp
	@PYTHONPATH=docs $(BIN)/python -m generate

# The wheel and the source distribution, in dist/.
package: .venv/release.stamp
	@$(BIN)/python -m build --no-isolation --outdir dist .
	@$(BIN)/twine check --strict dist/*

bench: .venv/test.stamp
	@$(BIN)/python -m bench

# After dependencies changed; needs uv. Locked versions are kept: to upgrade one, delete its lines
# first.
lock:
	@$(COMPILE) --extra dev --group build --output-file requirements.lock
	@$(COMPILE) --group build --constraints requirements.lock --output-file requirements-server.lock
	@$(COMPILE) --group test --constraints requirements.lock --output-file requirements-test.lock
	@$(COMPILE) --group docs --constraints requirements.lock --constraints requirements-test.lock \
		--output-file requirements-docs.lock
	@$(COMPILE) --group release --constraints requirements.lock --constraints requirements-test.lock \
		--output-file requirements-release.lock

clean:
	rm -rf .venv dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Billhook needs Python 3.11 or newer; none was found." >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/run.stamp: .venv/bin/python requirements.lock pyproject.toml
	@echo "Installing Billhook (once) …"
	@$(INSTALL) -r requirements.lock
	@$(INSTALL_BILLHOOK)
	@touch $@

.venv/test.stamp: .venv/run.stamp requirements-test.lock
	@echo "Installing what the tests need (once) …"
	@$(INSTALL) -r requirements-test.lock
	@touch $@

.venv/release.stamp: .venv/test.stamp requirements-release.lock
	@echo "Installing what a release needs (once) …"
	@$(INSTALL) -r requirements-release.lock
	@touch $@

.venv/docs.stamp: .venv/test.stamp requirements-docs.lock
	@echo "Installing what the documentation needs (once) …"
	@$(INSTALL) -r requirements-docs.lock
	@touch $@
