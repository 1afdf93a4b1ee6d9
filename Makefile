PYTHON ?= python3
CORES ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || nproc 2>/dev/null || echo 1)

# What `make verify` draws from, and for how long.
TIER ?= laptop
MINUTES ?= 3

VENV := .venv
STAMP := $(VENV)/.lock-installed

# Jobs of the workflow call plain `python`: it must be the locked one.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Set in many containers; every job would compile all that it imports anew, as long again as importing it.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install smoke test pytest verify docs dist container mutants slurm audit lint format

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: $(STAMP) ## install the locked packages into .venv

smoke: $(STAMP) ## run the whole workflow at the smoke tier (CPU, minutes); CORES=N limits it
	$(VENV)/bin/snakemake --cores $(CORES) --show-failed-logs all --config tier=smoke

test: $(STAMP) ## lint, and run all tests beside it
	$(MAKE) --no-print-directory --jobs=2 lint pytest

pytest: $(STAMP)
	$(VENV)/bin/pytest -n $(CORES) --dist loadfile --no-loadscope-reorder

verify: $(STAMP) ## train stretches of committed runs again and compare; TIER=, MINUTES=, SEED=
	$(VENV)/bin/python -m sharpflat verify --tier $(TIER) --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

docs: $(STAMP) ## build the site, with its examples, into docs/_build/html; warnings are errors
	$(VENV)/bin/python -m pip install --quiet -r envs/requirements-docs.lock
	rm -rf docs/generated docs/_build
	$(VENV)/bin/sphinx-build --fail-on-warning --keep-going -b html docs docs/_build/html
	$(VENV)/bin/linkchecker --config docs/linkchecker.ini docs/_build/html/index.html

dist: ## build the package's wheel and source distribution into dist/
	rm -rf dist
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet build
	.venv-dist/bin/python -m build

container: ## build the container image, and where apptainer is, the one for `snakemake --sdm apptainer`
	docker build --tag sharpflat .
	! command -v apptainer || apptainer build --force envs/sharpflat.sif docker-daemon:sharpflat:latest

mutants: $(STAMP) ## plant faults in a copy of the code, one at a time, and list those no test catches
	PYTHONPATH=tests $(VENV)/bin/python -m mutants.run

slurm: $(STAMP) ## as root on Debian: run the smoke tier through a real Slurm on this machine
	$(VENV)/bin/python -m pip install --quiet -r envs/requirements-slurm.lock
	tests/slurm/run.sh "$(CURDIR)/$(VENV)/bin/python"

audit: $(STAMP) ## look the locked packages up in the database of known vulnerabilities (network)
	$(VENV)/bin/python -m pip install --quiet pip-audit
	$(VENV)/bin/pip-audit --no-deps --disable-pip -r envs/requirements.lock

lint: $(STAMP) ## check style, types and the workflow's rules
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/snakefmt --check Snakefile workflow
	$(VENV)/bin/snakemake --lint --config tier=smoke

format: $(STAMP) ## rewrite the code in the project's style
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format
	$(VENV)/bin/snakefmt Snakefile workflow

# The stamp is removed first and written last, so an install that fails is tried again.
$(STAMP): envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo 'sharpflat needs Python 3.11 or newer: try "make PYTHON=python3.11 ..."' >&2; exit 1; }
	rm -f $@
	@echo 'Installing the locked packages into $(VENV): minutes, and about 6 GB on Linux (CUDA)'
	$(PYTHON) -m venv $(VENV)
	@# Compiled is what jobs import, by importing it: all that pip would compile takes half as long again.
	$(VENV)/bin/python -m pip install --quiet --no-compile -r envs/requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps -e .
	$(VENV)/bin/python -c 'import pandas, seaborn, snakemake.cli, torch._dynamo, torch._inductor.config'
	touch $@
