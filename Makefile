# One-command entry points. They make and use an environment of their own (.venv); nothing else is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# pass options on, like: make demo ARGS="--seed 2 --also-test fox=/data/fox_re10k"
ARGS ?=
# test processes; each uses one thread
WORKERS ?= 2
# for `make hosts`: a folder of checkouts, and an interpreter that has their packages and this one
HOSTS ?= hosts
HOSTS_PYTHON ?= $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help demo demo-quick test test-quick lint format docs hosts bench gpu-check gpu-wheels gpu-nvrtc gpu-ptx sanitize clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt setup.py packaging_backend/diff3r_build.py diff3r_startup/diff3r_startup.pth
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check "$$(grep '^torch==' constraints.txt)" -c constraints.txt
	$(BIN)/python -m pip install --disable-pip-version-check -e ".[demo,dev,docs]" -c constraints.txt
	@touch $(STAMP)

demo: $(STAMP) ## fine-tune the miniature host with and without the plugin and compare
	$(BIN)/diff3r demo $(ARGS)

demo-quick: $(STAMP) ## the same structure, everything tiny (two minutes)
	$(BIN)/diff3r demo --quick $(ARGS)

# every call of ours that comes to its end is compared with the shapes it is annotated with (tests/shape_checks.py)
SHAPES := --jaxtyping-packages=diff3r_plugin,diff3r_adapters,shape_checks.checked
# what a change of a Python file breaks first: the layers, the mathematics on small scenes, types and settings
QUICK := tests/docs/test_architecture.py tests/docs/test_settings_page.py tests/coordinates tests/optimize \
	tests/linalg tests/plugin/settings tests/cli tests/test_types.py tests/test_objective.py tests/test_finite.py \
	tests/test_strict_json.py tests/test_memory.py tests/test_mean_and_error.py

test: $(STAMP) ## the whole test suite, with shapes checked
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope $(SHAPES) $(ARGS)

test-quick: $(STAMP) ## what a change of a Python file needs, in less than a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow and not browser" $(QUICK) $(ARGS)

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## the pages and the API reference as a site (outputs/site/index.html, works offline)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

hosts: $(STAMP) ## run real hosts from the folder HOSTS, with and without the plugin (see tests/hostlab/README.md)
	$(BIN)/python tests/hostlab/matrix.py $(HOSTS) --python $(HOSTS_PYTHON) $(ARGS)

bench: $(STAMP) ## timings of the kernels, the layer and the solvers (outputs/benchmarks)
	$(BIN)/python -m benchmarks.native
	$(BIN)/python -m benchmarks.layer
	$(BIN)/python -m benchmarks.solvers

gpu-check: ## the GPU backend on a device, nine minutes, with the Python in PYTHON (ARGS=--cpu: a dry run)
	PYTHON=$(PYTHON) benchmarks/gpu_check.sh $(ARGS)

gpu-wheels: ## wheels that a GPU machine without a network may lack, in WHEELS (default outputs/wheels)
	PYTHON=$(PYTHON) benchmarks/gpu_wheels.sh $(or $(WHEELS),outputs/wheels) $(ARGS)

gpu-nvrtc: $(STAMP) ## all GPU kernels by several releases of NVRTC (in NVRTC, default outputs/nvrtc); needs no GPU
	PYTHON=$(BIN)/python benchmarks/gpu_nvrtc.sh $(or $(NVRTC),outputs/nvrtc) $(ARGS)

# orders in which blocks, warps and paths of a branch run
SEEDS ?= 1 2 3
# the tests of a device on our kernels' PTX, and those of the machine that runs it
PTX := tests/gpu tests/render/test_backends.py -k "on_device or gpu"

gpu-ptx: $(STAMP) ## the tests of a GPU on the kernels' PTX, run and checked on this CPU in several orders (SEEDS)
	for seed in $(SEEDS); do OMP_NUM_THREADS=1 DIFF3R_EMULATE_GPU=ptx DIFF3R_PTX_SEED=$$seed \
		$(BIN)/python -m pytest -q $(PTX) $(ARGS) || exit 1; done

sanitize: $(STAMP) ## the kernels under address and undefined-behavior sanitizers
	PYTHON=$(abspath $(BIN))/python tests/kernels/run_sanitized.sh $(ARGS)

clean: ## remove the environment and everything that was written
	rm -rf $(VENV) outputs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
