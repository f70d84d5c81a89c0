# Every target does its own set-up; `make` alone says what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.made
PYTEST := $(BIN)/python -m pytest
# a file of tests goes to one process, which has a Kafka of its own if they need one
PARALLEL := -n auto --dist loadfile

.PHONY: help setup check test full chaos site demo bench soak fuzz audit docs jars

help: ## Say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(STAMP) jars ## Make .venv and fetch what the tests need (Kafka's jars, Java, Maven)

$(STAMP): pyproject.toml constraints.txt scripts/python-environment
	@scripts/python-environment
	@touch $@

jars:
	@scripts/system-packages java
	@scripts/kafka-jars >/dev/null

define lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
endef

check: $(STAMP) ## Lint, types, unit and contract tests: under two minutes, no Kafka
	$(lint)
	$(PYTEST) tests/unit tests/contract tests/lab -m "not full and not kafka and not slow" $(PARALLEL)

test: $(STAMP) jars ## All that a change can break, on real Kafka, with coverage
	@scripts/system-packages etcd go browser prometheus compose
	$(lint)
	$(PYTEST) -m "not full" $(PARALLEL) --cov --cov-report=term:skip-covered

full: $(STAMP) jars ## Everything, also chaos, soak and the lab's etcd clusters
	@scripts/system-packages etcd go browser prometheus compose
	$(lint)
	$(PYTEST) --cov --cov-report=term:skip-covered

chaos: $(STAMP) jars ## Faults in random order, nothing lost; CHAOS="--faults 10 --seed 7" adds options
	$(BIN)/python -m tests.chaos $(CHAOS)

site: $(STAMP) ## Write the pages as a site, to site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

demo: $(STAMP) ## See it work; DEMO="--seconds 30" adds options
	$(BIN)/dwcp-stream demo $(DEMO)

bench: $(STAMP) jars ## Measure: every benchmark, beside other frameworks (half an hour)
	@scripts/peer-environment
	@for program in benchmarks/bench_*.py; do \
		name=$${program#benchmarks/bench_}; name=$${name%.py}; \
		echo "== dwcp-stream bench $$name"; $(BIN)/dwcp-stream bench $$name || exit 1; \
	done

soak: $(STAMP) jars ## A worker under half load for an hour, and whether anything grows; SOAK="--minutes 60"
	$(BIN)/python benchmarks/soak.py $(SOAK)

fuzz: $(STAMP) ## Odd records by the million, then coverage-guided; FUZZ="--runs 100000 --records 1000000"
	@scripts/fuzz-environment
	PYTHONPATH=.fuzz $(BIN)/python -m tests.fuzz.run $(FUZZ)

audit: $(STAMP) ## Look up the pinned packages among the known vulnerabilities (needs the internet)
	@$(BIN)/python scripts/audit

docs: $(STAMP) ## Write the pages and files that are made from the code
	$(BIN)/python -m dwcp_stream.telemetry > docs/metrics.md
	$(BIN)/python -m dwcp_stream.settings_docs page > docs/settings.md
	$(BIN)/python -m dwcp_stream.settings_docs file > config/dwcp-stream.toml
	$(BIN)/python -m dwcp_stream.asyncapi > docs/asyncapi.yaml
	$(BIN)/python scripts/model-figures
	$(BIN)/python scripts/dashboards
