.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
TYPED := contracts/src libs/chassis/src libs/providers/src $(wildcard services/*/src) tools/provider-simulator/src tools/pombo/src
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A system's own Python comes optimised by profile; one that pyenv compiled does not, and needs half as long again.
PYTHON ?= $(firstword $(shell for one in /usr/bin/python3 python3; do $$one -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  2>/dev/null && echo $$one; done))

.PHONY: help setup lock lint test simulate planted-bugs demo up bench payloads advisories clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## virtual environment from requirements.lock, members editable on top

.venv/.installed: requirements.lock $(wildcard */pyproject.toml) $(wildcard */*/pyproject.toml)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is missing: install it and run make again"; exit 2; }
	@command -v uv >/dev/null || python3 -m uv --version >/dev/null 2>&1 || python3 -m pip install -q uv
	@test -d .venv || python3 -m uv venv -q --python $(PYTHON) .venv 2>/dev/null || uv venv -q --python $(PYTHON) .venv
	@UV=$$(command -v uv || echo "python3 -m uv"); VIRTUAL_ENV=.venv $$UV pip sync -q --require-hashes requirements.lock && \
	  VIRTUAL_ENV=.venv $$UV pip install -q --no-deps $$(for m in contracts libs/* services/* tools/*; do printf -- '-e ./%s ' $$m; done)
	@touch $@

lock: ## resolve the dependencies again and write requirements.lock
	uv lock -q --upgrade && uv export -q --all-packages --no-emit-workspace --no-header -o requirements.lock
	mkdir -p deploy/requirements
	for member in $(notdir $(wildcard services/*)) provider-simulator; do uv export -q --package $$member --no-dev \
	  --no-emit-workspace --no-header --no-annotate -o deploy/requirements/$$member.lock; done

lint: setup ## ruff, strict types, import rules, style checks
	ruff format --check .
	ruff check .
	mypy $(TYPED)
	lint-imports
	pytest -q tests/repo

test: setup ## everything: unit, property, contract, service and end-to-end tests on real Kafka and PostgreSQL
	pytest -q -n 3 --dist loadfile -m "not stack and not seeds" --durations=10
	$(MAKE) simulate
	pytest -q -m stack --durations=10  # one whole system at a time

simulate: setup ## the decisions of all services under a virtual clock, with faults by seed (SEEDS=n, FIRST=n, SEED=n)
	$(if $(SEED),PYTHONPATH=tests/support python -m simulation.show $(SEED),SEEDS=$(or $(SEEDS),1000) FIRST=$(or \
	  $(FIRST),0) pytest -q -n 2 -m seeds tests/simulation)

planted-bugs: setup ## look for a seed that shows each planted bug, and record it
	PYTHONPATH=tests/support python -m simulation.search

demo: setup ## a campaign from a spreadsheet to "read", with faults, then the audit (RECIPIENTS=n)
	pombo demo --recipients $(or $(RECIPIENTS),2000)

up: setup ## every service and the simulator in one terminal
	pombo up

bench: setup ## one JSON line per figure (DURATION=seconds of a window, ROWS=imported and planned, ONLY="names")
	pombo bench $(if $(DURATION),--duration $(DURATION)) $(if $(ROWS),--rows $(ROWS)) $(foreach name,$(ONLY),--only $(name))

.PHONY: chaos chaos-short
chaos-short: setup ## four runs with the worst faults on the whole system, each with its audit: part of CI
	pombo chaos --matrix short --recipients $(or $(RECIPIENTS),300)

chaos: setup ## each fault alone and all main pairs, then schedules by seed, until docs/chaos-results.jsonl has enough
	pombo chaos --matrix full --recipients $(or $(RECIPIENTS),500) --results docs/chaos-results.jsonl
	pombo chaos --matrix full --recipients 10000 --results docs/chaos-results.jsonl
	pombo chaos --until-runs 200 --until-messages 1000000 --recipients 2000 --results docs/chaos-results.jsonl

payloads: setup ## check provider payloads: make payloads DIR=folder
	@pombo payloads check $(DIR)

advisories: setup ## known vulnerabilities of the pins (asks PyPI's advisory database, which not every network reaches)
	uvx pip-audit --strict --no-deps --disable-pip -r requirements.lock

clean: ## remove the environment and everything the project started or generated
	rm -rf .venv .pombo
