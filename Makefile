# Every target sets up what it needs; a second call reuses it.
#   make demo [TASK=kidney_tumor|brain_tumor]   the whole loop on synthetic hospitals, with a report
#   make test                                   all tests, with coverage
#   make hippocampus DATA=Task04_Hippocampus    a federation on real data from the Medical Segmentation Decathlon
#   make soak [MINUTES=10] [KILLS=200]          16 annotators at one label server, a server that is killed over and over, then every
#                                               fault of a federation across processes
#   make lint                                   format, lint, types, import layers
#   make bench                                  the benchmarks that need neither data nor settings: long; each of the others says in its
#                                               first lines how it is run
#   make check                                  the same and the unit tests: minutes, for before a commit

SHELL := /bin/bash
TASK ?= kidney_tumor
SEED ?= 0
MINUTES ?= 10
KILLS ?= 200
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/ready
BENCHMARKS := aggregation_memory anchoring clicks evaluation_speed interval_coverage label_server prediction_speed round_overhead secure_aggregation

.PHONY: setup demo hippocampus test soak lint check bench clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; v == (3, 11) or sys.exit(f"segfed needs Python 3.11 (MONAI Label imports a module that 3.12 removed); {sys.executable} is {v[0]}.{v[1]}. Install Python 3.11, or name it: make setup PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	# torch with what it depends on, because its CUDA libraries differ by machine; the rest as locked
	$(BIN)/python -m pip install --quiet --constraint requirements.lock torch
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

demo: $(READY)
	$(BIN)/segfed demo --task $(TASK) --seed $(SEED)

hippocampus: $(READY)
	@test -n "$(DATA)" || { echo "Name the data set's folder: make hippocampus DATA=path/to/Task04_Hippocampus"; exit 2; }
	$(BIN)/segfed site import "$(DATA)" --format msd --task docs/examples/hippocampus/hippocampus.toml \
		--out docs/examples/hippocampus/sites --sites north=100,east=50,south=30,west=20
	$(BIN)/segfed study run docs/examples/hippocampus/study.toml

test: $(READY)
	$(BIN)/python -m pytest --cov --cov-report=term

soak: $(READY)
	$(BIN)/python -m benchmarks.soak.label_annotators --minutes $(MINUTES)
	$(BIN)/python -m pytest tests/integration/test_label_crashes.py --kills $(KILLS)
	$(BIN)/python -m pytest -m "soak or not soak" tests/integration/faults

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/python -m pytest --ignore=tests/integration --cov --cov-report=term

bench: $(READY)
	for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf .venv runs build *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
