# `make` or `make help` lists the verbs. Each makes what it needs, so a fresh checkout starts with any of them.

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
PROCESSES ?= 3
BENCH_ARGS ?=
STRESS_ARGS ?=
FUZZ_ARGS ?=
MUTANTS_ARGS ?=
DOCS_ARGS ?=
PACKAGE_ARGS ?=
# Where a release lives, for the links on its page: make package URL=https://host/project
URL :=
LOCK_ARGS ?=

UV_VERSION := 0.13.8
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

# Written last, so an interrupted install is never taken for a finished one; named after the version, so that another
# PYTHON gets another environment.
STAMP := $(VENV)/.installed-$(PYTHON_VERSION)
DOCS_STAMP := $(VENV)/.docs-$(PYTHON_VERSION)
PACKAGE_STAMP := $(VENV)/.package-$(PYTHON_VERSION)
MUTANTS_STAMP := $(VENV)/.mutants-$(PYTHON_VERSION)
ENGINES_STAMP := $(VENV)-engines/.installed-$(PYTHON_VERSION)

# Programs which the verbs start by name (gunicorn, broker) must come from this environment, whichever is active.
RUN := PATH="$(abspath $(VENV))/bin:$$PATH" VIRTUAL_ENV="$(abspath $(VENV))" $(VENV)/bin/python -m

# What an active environment or a user's pip settings would redirect.
unexport PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV CONDA_PREFIX
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT PIP_REQUIREMENT
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

comma := ,
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv demo test test-engines stress fuzz mutants lint types format bench bench-report docs package lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.12 chooses the interpreter (now: $(PYTHON)), VENV=.venv the environment's folder"

venv: $(STAMP) ## the environment in .venv, from locked/venv.txt

demo: $(STAMP) ## train a classifier, serve it from gunicorn workers, send them real requests
	@$(RUN) benchmarks.demo

# Compiled first: where PYTHONDONTWRITEBYTECODE is set, each of the thousand processes of the tests would do it again.
# Files are handed out by name, so that the many short ones of tests/unit come last and fill the gaps. A process that
# does not come back from C code ends the run (tests/conftest.py); restarted, it would get the same test again.
test: $(STAMP) ## all tests but the slow ones, in PROCESSES=3; PYTEST_ARGS="-m slow" for those
	@$(VENV)/bin/python -m compileall -q broker worker_client tests benchmarks
	@$(RUN) pytest --numprocesses=$(PROCESSES) --dist=loadfile --no-loadscope-reorder --max-worker-restart=0 \
	    $(PYTEST_ARGS)

stress: $(STAMP) ## kill workers and brokers at random under load; STRESS_ARGS="--kills 1000 --seed N"
	@$(RUN) tests.stress $(STRESS_ARGS)

fuzz: $(STAMP) ## call models of every kind in every way and compare every answer; FUZZ_ARGS="--seconds 3600 --seed N"
	@$(RUN) tests.differential $(FUZZ_ARGS)

mutants: $(MUTANTS_STAMP) ## break the code in small ways, one at a time: do the tests notice? MUTANTS_ARGS="--mutants 200 --minutes 120 --seed N"
	@$(RUN) tests.mutants $(MUTANTS_ARGS)

test-engines: $(ENGINES_STAMP) ## the examples of PySpark, Ray, Dask and Beam, in an environment of their own
	@PATH="$(abspath $(VENV)-engines)/bin:$$PATH" $(VENV)-engines/bin/python -m pytest tests/engines $(PYTEST_ARGS)

lint: $(STAMP) ## ruff (rules and format), the import contracts, spelling
	@echo "ruff: rules"; $(RUN) ruff check .
	@echo "ruff: format"; $(RUN) ruff format --check .
	@echo "import-linter: contracts"; $(VENV)/bin/lint-imports --no-logo
	@echo "codespell: words"; $(VENV)/bin/codespell broker worker_client benchmarks tests docs *.md *.toml Makefile

types: $(STAMP) ## mypy --strict over broker and worker_client
	@echo "mypy: types"; $(RUN) mypy

format: $(STAMP) ## let ruff rewrite what it can
	@$(RUN) ruff check --fix-only --quiet . && $(RUN) ruff format .

bench: $(STAMP) ## latency beside the targets; BENCH_ARGS for its options
	@$(RUN) benchmarks latency $(BENCH_ARGS)

bench-report: $(STAMP) ## tables and plots of the docs, anew from benchmarks/published
	@$(VENV)/bin/python docs/site/plots.py
	@$(VENV)/bin/python docs/site/reference.py

docs: $(DOCS_STAMP) ## the pages as a site in site/, warnings as errors; DOCS_ARGS="-b linkcheck" for the links to other sites
	@$(VENV)/bin/python docs/site/reference.py
	@$(RUN) sphinx --fail-on-warning --keep-going --quiet --conf-dir docs/site $(DOCS_ARGS) docs site
	@echo "docs: site/index.html"

# pyroma also asks for an e-mail address of the authors and for the project's URL, which are not known yet.
package: $(PACKAGE_STAMP) ## wheel and sdist in dist/, checked and tried in a fresh environment; PACKAGE_ARGS="--python python3.10 python3.13"
	@rm -rf dist
	@echo "build: sdist, and the wheel from it"; ONESESSION_URL=$(URL) $(RUN) build --no-isolation --outdir dist . >/dev/null
	@$(VENV)/bin/twine --no-color check --strict dist/*
	@ONESESSION_URL=$(URL) $(RUN) pyroma --min 10 --quiet --skip-tests AuthorEmail$(if $(URL),,$(comma)Url) . >/dev/null \
	    && echo "pyroma: 10/10"
	@$(RUN) tests.package $(if $(URL),--url $(URL)) $(PACKAGE_ARGS)

lock: ## write the files of constraints and locked/ anew, keeping pins that still fit; LOCK_ARGS=--upgrade moves all of them
	@echo "[1/3] a passing environment with uv $(UV_VERSION)"; \
	lock=$$(mktemp -d); trap 'rm -rf "$$lock"' EXIT; \
	$(PYTHON) -m venv "$$lock/venv" && "$$lock/venv/bin/python" -m pip install --quiet uv==$(UV_VERSION); \
	echo "[2/3] resolving for Python 3.10 to 3.13, x86-64 and aarch64"; \
	export UV_PYTHON_DOWNLOADS=never; \
	resolve() { "$$lock/venv/bin/uv" pip compile pyproject.toml --quiet --universal --python-version 3.10 \
	    --custom-compile-command "make lock" "$$@"; }; \
	pins() { \
	    cp "$$1" "$$lock/$$1" 2>/dev/null || true; \
	    resolve --annotation-style line --output-file "$$lock/$$1" "$${@:2}" $(LOCK_ARGS); \
	    sed -E -f .ci/markers.sed "$$lock/$$1" > "$$1"; \
	    echo "$$1: $$(grep -c == "$$1") pins"; \
	}; \
	pins constraints.txt --extra tensorflow --extra tensorflow-cpu --group dev --group mutants --group docs --group package; \
	pins constraints-engines.txt --extra tensorflow-cpu --group engines; \
	echo "[3/3] the hashes of what make installs"; mkdir -p locked; \
	hashes() { resolve --constraint constraints.txt --no-annotate --generate-hashes --output-file "$$lock/$$1" "$${@:2}"; \
	    sed -E -f .ci/markers.sed "$$lock/$$1" > "locked/$$1"; }; \
	hashes venv.txt --extra tensorflow-cpu --group dev; \
	for group in docs mutants package; do hashes $$group.txt --group $$group; done; \
	echo "locked/: $$(cat locked/*.txt | grep -c -- --hash=) hashes"

clean: ## remove the environment and every cache
	rm -rf $(VENV) $(VENV)-engines dist build site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(STAMP): pyproject.toml locked/venv.txt tests/real_models.txt
	@command -v $(PYTHON) >/dev/null || { \
	    echo "There is no '$(PYTHON)' here. Name a Python 3.10 to 3.13: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || { \
	    echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); this needs 3.10 to 3.13. Name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make environments: its venv module is missing (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "[1/3] a fresh environment in $(VENV), Python $(PYTHON_VERSION)"
	@$(PYTHON) -m venv --clear $(VENV)
	@echo "[2/3] TensorFlow and the tools, about 2 GB unpacked"
	@$(VENV)/bin/python -m pip install --require-hashes --requirement locked/venv.txt
	@$(VENV)/bin/python -m pip install --require-hashes --no-deps --requirement tests/real_models.txt
	@echo "[3/3] onesession"
	@$(VENV)/bin/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

$(DOCS_STAMP): $(STAMP) locked/docs.txt
	@echo "Sphinx and its theme"
	@$(VENV)/bin/python -m pip install --require-hashes --requirement locked/docs.txt
	@touch $@

$(PACKAGE_STAMP): $(STAMP) locked/package.txt
	@echo "build, twine and pyroma"
	@$(VENV)/bin/python -m pip install --quiet --require-hashes --requirement locked/package.txt
	@touch $@

$(MUTANTS_STAMP): $(STAMP) locked/mutants.txt
	@echo "cosmic-ray, which makes the mutants"
	@$(VENV)/bin/python -m pip install --require-hashes --requirement locked/mutants.txt
	@touch $@

# Its own pins: what the engines bear with would hold back numpy and protobuf for all that is tested without them.
$(ENGINES_STAMP): pyproject.toml constraints-engines.txt
	@echo "PySpark, Ray, Dask, Beam and TensorFlow in $(VENV)-engines, about 4 GB unpacked"
	@$(PYTHON) -m venv --clear $(VENV)-engines
	@$(VENV)-engines/bin/python -m pip install --quiet --requirement constraints-engines.txt
	@$(VENV)-engines/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
