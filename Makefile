# One command each: build the environment, see it work, test it, check it, measure it. `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter that is new enough; PYTHON=/path/to/python overrides.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PYTEST := $(BIN)/python -m pytest
FAST := HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-quick} $(PYTEST) -q -m "not io" --numprocesses=0 -o console_output_style=classic
UV ?= uv
PIN := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-header --quiet

# Without compiled files every start of `lineitem` and of pytest compiles all sources again, which costs most of a test's time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test fast fast-rate fast-others check format faults tamper bench reference pin build clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: install ## the main job on real sample usage, narrated
	@$(BIN)/lineitem demo

install: $(VENV)/.server ## build .venv with the pinned dependencies and lineitem itself

test: $(VENV)/.dev ## all tests: those without I/O first, then the rest
	@$(BIN)/python -m tests.faults.broker
	$(PYTEST) -m "not io"
	$(PYTEST) -m "io"

fast: $(VENV)/.dev ## the inner loop: tests without I/O, few examples of each law
	@$(MAKE) --no-print-directory -j2 fast-rate fast-others

# Two plain processes, each with about half of the work: workers would each collect all of them and report every step to a third
# process, which costs as much CPU as a third of the tests.
fast-rate: ; @$(FAST) tests/rate
fast-others: ; @$(FAST) --ignore=tests/rate tests

check: $(VENV)/.dev ## lint, format, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## rewrite the sources as `make check` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: $(VENV)/.dev ## every fault and what must hold after it: make faults SEED=1 ROUNDS=200 KAFKA=1 (RECORD=1: into the report)
	@$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(KAFKA),--kafka) \
		$(if $(RECORD),--record) $(foreach kind,$(ONLY),--only $(kind))

tamper: $(VENV)/.dev ## the long run of the sweep over the ledger: every cell of every kind of row is altered and must be found
	@LINEITEM_TAMPER=all $(PYTEST) tests/integration/test_tamper.py

bench: $(VENV)/.dev ## benchmarks against bare baselines, as JSON lines
	@$(BIN)/python -m benchmarks

reference: $(VENV)/.dev ## write the generated pages of docs/reference
	@$(BIN)/python scripts/generate_reference.py
	@$(BIN)/python -m tests.faults.report

pin: ## pin the dependencies again (the only command that needs uv)
	$(PIN) --upgrade pyproject.toml requirements/build.in --extra server -o requirements/server.txt
	$(PIN) --upgrade pyproject.toml requirements/build.in --extra server --extra flags --extra kafka --extra nats --extra otel --extra schemas \
		--extra dev -c requirements/server.txt \
		-o requirements/dev.txt

clean: ## remove what the commands above made, .venv included; the ledger in .lineitem stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python:
	@test -n "$(PYTHON)" || { \
		echo "lineitem needs Python 3.11 or newer and found none on PATH." >&2; \
		echo "  Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "lineitem needs Python 3.11 or newer; $(PYTHON) is not." >&2; \
		echo "  Name another: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Creating $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment." >&2; \
		echo "  On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.server: $(VENV)/.python requirements/server.txt pyproject.toml
	@echo "Installing the pinned dependencies into $(VENV) (about 150 MB, once)"
	@$(PIP) install --require-hashes -r requirements/server.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.dev: $(VENV)/.server requirements/dev.txt
	@echo "Installing what tests and checks need into $(VENV)"
	@$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	@touch $@
