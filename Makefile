# Outcry. `make` alone lists what there is. ARGS is passed on: make demo ARGS="--json out.json"

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

ARGS ?=
# Processes that share the tests; those that start clusters never run beside each other.
TEST_WORKERS ?= 2
PYTEST := .venv/bin/python -m pytest

.PHONY: help setup compile demo devnet test test-long mutants setup-extras model lint bench lock clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv from the lock; at once when nothing changed
	@scripts/setup
	@.venv/bin/python scripts/compile --stale

compile: setup ## optional: compile the matching engine with mypyc, about 2.5 times as fast
	@.venv/bin/python scripts/compile

demo: setup ## five validators, a chain, two traders: deposit, trade, talk, withdraw
	@.venv/bin/outcry devnet demo $(ARGS)

devnet: setup ## a network on this machine, until Ctrl-C
	@.venv/bin/outcry devnet up $(ARGS)

test: setup lint ## static checks, then every test but the long ones
	@$(PYTEST) -m "not long" -n $(TEST_WORKERS) --dist loadgroup $(ARGS)

test-long: setup ## the tests that take longer than the suite may
	@$(PYTEST) -m long $(ARGS)

mutants: setup ## plant every known mistake; a table of what caught it (--json F, --only NAME, --list)
	@.venv/bin/python -m tests.mutants $(ARGS)

setup-extras: ## bring anvil by npm into .extras; optional
	@scripts/setup-extras

model: ## check the model of the agreement in docs/model; brings quint by npm into .extras
	@scripts/model $(ARGS)

lint: setup ## ruff, mypy strict, and the floors between rooms
	@scripts/lint

bench: setup ## the engine and the cluster beside others; one table, benchmarks/out/latest.json
	@.venv/bin/python -m benchmarks $(ARGS)

lock: ## write requirements.lock from pyproject.toml; ARGS=--upgrade for newer versions
	@scripts/lock $(ARGS)

clean: ## remove caches and build output; keeps .venv, .extras and networks' state
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache \
	    .coverage .coverage.* .setup benchmarks/out
	@python3 scripts/compile --clean
	@find . -path ./.venv -prune -o -path ./.extras -prune -o -path ./.git -prune -o \
	    -type d -name __pycache__ -print0 | xargs -0 -r rm -rf

distclean: clean ## and .venv and .extras: as after a fresh clone
	@rm -rf .venv .extras
