# Needs Python 3.11 to 3.13, make and the package indexes (PyPI; the Maven repository for Apache Kafka, once).
# uv installs everything else into .venv, in the versions of uv.lock. Without a uv on PATH one is put into .liverank/uv.

.DEFAULT_GOAL := help
.PHONY: help demo tutorial test test-slow faults broker screenshots lint types audit sync

ARGS ?=
# Two files of tests at a time, each with an Apache Kafka of its own: most wait for processes; in the order of folders, in
# which the long ones come first. Not for a few of them.
PARALLEL := $(if $(ARGS)$(LIVERANK_TEST_BROKER),,--numprocesses 2 --dist loadfile --no-loadscope-reorder)
UV := $(or $(shell command -v uv 2>/dev/null),.liverank/uv/bin/uv)
RUN := $(UV) run --frozen --no-sync
# Adds to .venv what is missing and leaves there what else was installed, such as what the tests need.
SYNC := $(UV) sync --frozen --inexact --no-dev

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|' 2>/dev/null \
		|| grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST)

demo: $(UV) ## the whole loop on this machine: broker, first model, worker, trainer, simulated people (ARGS="..." goes to liverank demo)
	@echo "==> dependencies"
	@$(SYNC) --extra all
	@echo "==> liverank demo $(ARGS)"
	@$(RUN) liverank demo $(ARGS)

tutorial: $(UV) ## the commands of docs/tutorial.md, from a made-up shop's files to a live list, in .liverank/tutorial
	@echo "==> dependencies"
	@$(SYNC) --extra all
	@echo "==> docs/tutorial.md"
	@rm -rf .liverank/tutorial && mkdir -p .liverank/tutorial && ln -s ../../examples .liverank/tutorial/examples
	@sed -n '/^```sh$$/,/^```$$/{/^```/!p}' docs/tutorial.md > .liverank/tutorial/commands.sh
	@cd .liverank/tutorial && PATH="$(CURDIR)/.venv/bin:$$PATH" bash -eux commands.sh

test: lint types ## lint, types and all tests but the slow ones (ARGS="..." goes to pytest)
	@echo "==> tests"
	@$(RUN) pytest -m "not slow" $(PARALLEL) $(ARGS)

test-slow: sync ## the slow tests: kills, rebalances, benchmarks (ARGS="..." goes to pytest)
	@echo "==> slow tests"
	@$(RUN) pytest -m slow $(ARGS)

faults: $(UV) ## processes, brokers, disks and lines fail under load, and every topic is checked (ARGS="--rounds 200 --seed 7 --json faults.json")
	@echo "==> dependencies"
	@$(SYNC) --extra all
	@echo "==> liverank bench faults $(ARGS)"
	@$(RUN) liverank bench faults $(ARGS)

broker: $(UV) ## Apache Kafka on 127.0.0.1:9092 until Ctrl-C (ARGS="--port 9192 --data DIR")
	@echo "==> dependencies"
	@$(SYNC) --extra broker
	@echo "==> Apache Kafka"
	@$(RUN) liverank broker $(ARGS)

screenshots: sync ## the pictures of the docs, of a real system in Chromium, into docs/images
	@echo "==> screenshots"
	@mkdir -p docs/images
	@LIVERANK_SCREENSHOTS=$(CURDIR)/docs/images $(RUN) pytest tests/integration/test_web_pictures.py

lint: sync ## ruff: rules and format
	@echo "==> lint"
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .

types: sync ## mypy, strict
	@echo "==> types"
	@$(RUN) mypy

audit: $(UV) ## known vulnerabilities of the dependencies, and an SBOM, in .liverank/audit (offline it says what is left out)
	@echo "==> audit"
	@.ci/audit $(UV)

sync: $(UV) ## .venv with everything that commands and tests need
	@echo "==> dependencies, with those of the tests"
	@$(UV) sync --frozen --extra all

# --target is not the system's Python, so that pip does it also where that one is managed by the distribution (PEP 668).
.liverank/uv/bin/uv:
	@echo "==> uv, into .liverank/uv"
	@python3 -m pip install --quiet --target .liverank/uv uv \
		|| { rm -rf .liverank/uv && python3 -m venv .liverank/uv && .liverank/uv/bin/python -m pip install --quiet uv; }
