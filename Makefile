# The commands of this house. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests: a folder is a tier. `make test TESTS=tests/contract/test_log.py` runs only these.
TESTS ?=
JOBS ?= 2
# A file's tests stay together, so they share the servers of their worker process; the first folders take longest.
PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder
RESULTS := .results
# Results name the commit they are of, for the report.
COMMIT = $(shell git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)
JUNIT = -o junit_suite_name=$(COMMIT) --junitxml=$(RESULTS)
ENGINE ?= embedded
# The long runs, how long they are, and how many files of them run at once (0: one after the other, in this process).
SOAK ?= tests/acceptance/test_flood.py tests/acceptance/test_cluster_flood.py tests/bad_input/test_fuzz.py tests/soak
FLOOD_ITEMS ?= 100000
HISTORIES ?= 100000
MUTATIONS ?= 1000000
BREAK_HOW ?= kill,stop,raise,cancel
HOURS ?= 0.03
SOAK_JOBS ?= 0

.DEFAULT_GOAL := help
.PHONY: help run stack stack-status stack-down test quick check bench soak report freeze lock clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: $(VENV)/run ## set up, then a live demo on loopback: engine, console, simulated Alipay
	@$(BIN)/alipay-notify up --demo

stack: $(VENV)/dev ## the cluster engine for real: three brokers, two receivers behind HAProxy, two workers …
	@$(BIN)/python -m deploy.local --all --detach

stack-status: $(VENV)/dev ## whether all of the stack runs
	@$(BIN)/python -m deploy.local --status

stack-down: $(VENV)/dev ## stop it
	@$(BIN)/python -m deploy.local --down

test: $(VENV)/dev check ## set up what the tests need, then run all but the long ones
	@$(BIN)/python -m pytest $(PARALLEL) $(JUNIT)/test.xml $(TESTS)

quick: $(VENV)/dev ## the tests that take seconds: no server, no process of ours, no browser
	@DELIVERIES=5 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q tests/unit tests/house

soak: $(VENV)/dev ## the long runs: both floods in full, kills at every step, three brokers, simulated histories, mutants
	@FLOOD_ITEMS=$(FLOOD_ITEMS) HISTORIES=$(HISTORIES) MUTATIONS=$(MUTATIONS) BREAK_HOW=$(BREAK_HOW) HOURS=$(HOURS) \
		$(BIN)/python -m pytest -o timeout=0 -n $(SOAK_JOBS) --dist loadfile $(JUNIT)/soak.xml $(SOAK)
	@$(MAKE) --no-print-directory report

report: $(VENV)/dev ## write deploy/docs/faults.md from the results of the last `make test` and `make soak`
	@mkdir -p $(RESULTS)
	@$(BIN)/python -m tests.soak.report $(RESULTS)/*.xml > $(RESULTS)/faults.md
	@mv $(RESULTS)/faults.md deploy/docs/faults.md

freeze: $(VENV)/dev ## with a release: freeze its contract, which the next one has to keep
	@$(BIN)/python -m tests.support.frozen_release

check: $(VENV)/dev ## lint, format, types, declared dependencies, spelling
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/deptry . && $(BIN)/codespell

bench: $(VENV)/dev ## the benchmarks, as ratios in one run; ENGINE=cluster: on real Kafka, PostgreSQL and Redis
	@$(BIN)/python -m tests.benchmarks --engine $(ENGINE)

lock: $(VENV)/dev ## write the lock files and the bill of materials anew from pyproject.toml
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" --extra uvloop pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" --extra uvloop --group dev pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" --extra uvloop --extra cluster --extra otel pyproject.toml \
		-o deploy/compose/requirements.lock
	@printf "hatchling\nuv\n" | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --custom-compile-command "make lock" -c requirements-dev.lock - -o deploy/compose/build.lock
	@$(BIN)/python -m deploy.packaging.bill_of_materials

clean: ## remove the virtual environment, caches and demo files
	@rm -rf $(VENV) .demo $(RESULTS) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: call make with PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run: $(VENV)/bin/python requirements.lock pyproject.toml
	@echo "setting up $(VENV) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/dev: $(VENV)/bin/python requirements-dev.lock pyproject.toml
	@echo "setting up $(VENV) for development …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@ $(VENV)/run
