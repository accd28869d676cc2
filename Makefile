# make demo    run the birthday campaign on made-up profiles against the sandbox partner
# make serve   the Prefect UI, a worker and every campaign, until Ctrl-C
# make test    run the tests
# make lint    ruff: rules and format
# make types   mypy, strict
# make format  let ruff rewrite
# make bench   measure where a run's time goes
# make fuzz    throw bytes at the answer reader
# make reference write what pages take from the code: the reference, the README's files
# make samples write the made-up profiles
# make sandbox serve the sandbox partner by itself
# make clean   remove everything that these made

.DEFAULT_GOAL := demo
.PHONY: demo serve test lint types format bench fuzz reference samples sandbox clean

# The first Python that will do; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Prefect's database and results stay in this folder, apart from any other Prefect of this user.
export PREFECT_HOME ?= $(CURDIR)/.prefect
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false

# DATE=2027-02-28 runs another day; SANDBOX=flaky (slow, down, html, ...) shows a failure.
demo: .venv/installed
	@$(BIN)/python -m flows.birthday_coupons $(if $(DATE),--date $(DATE)) $(if $(SANDBOX),--sandbox $(SANDBOX))

# PORT=4300 serves elsewhere; NOTIFY=slack-webhook/team says which block is told of failed and late campaigns.
serve: .venv/installed
	@exec $(BIN)/python -m deployments.serve $(if $(PORT),--port $(PORT)) $(if $(NOTIFY),--notify $(NOTIFY))

# FAST=1 is the inner loop: without clusters, browsers, servers of their own, processes that are killed, and what is long.
# Three processes, each with a Prefect server of its own, keep two processors busy: tests also wait. WORKERS=1 for fewer.
test: .venv/installed-dev
	$(BIN)/pytest --numprocesses $(or $(WORKERS),3) $(if $(FAST),-m "not slow")

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Ratios and medians of one run; nothing else should run beside it. BENCH=answer runs one of tests/benchmarks.
bench: .venv/installed-bench
	@for file in tests/benchmarks/bench_$(or $(BENCH),*).py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Ten minutes of bytes that nobody would send; MINUTES=1 for fewer.
fuzz: .venv/installed-dev
	@$(INSTALL) --editable '.[dev,fuzz]'
	$(BIN)/python tests/fuzz/fuzz_answer.py -max_total_time=$$(( 60 * $(or $(MINUTES),10) ))

reference: .venv/installed-dev
	$(BIN)/python -m deployments.reference

samples: .venv/installed
	$(BIN)/python -m deployments.sandbox.profiles

sandbox: .venv/installed
	$(BIN)/python -m deployments.sandbox $(if $(SANDBOX),--behaviour $(SANDBOX))

clean:
	rm -rf .venv .prefect samples outbox .mypy_cache .pytest_cache .ruff_cache

# A run needs the package alone; the tests and the benchmarks need more.
.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 with venv is needed: install one, or name it with PYTHON=..."; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version); this takes about a minute, once."
	@$(PYTHON) -m venv .venv
	@$(INSTALL) --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	@$(INSTALL) --editable '.[dev]'
	@touch $@

.venv/installed-bench: .venv/installed
	@$(INSTALL) --editable '.[dev,bench]'
	@touch $@
