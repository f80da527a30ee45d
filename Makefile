# What there is to do here; `make help` lists it. Needs python3 (3.11 or later) and make, and, for a real
# Asterisk where the machine has none, root on a Debian. Everything it makes is in .venv, in var, and in the
# cache ($CORDBOARD_CACHE, by default ~/.cache/cordboard).

PYTHON ?= python3
PY := .venv/bin/python
# 16 or 22: a private Asterisk of that version, instead of the system's or else 22 (lab/tree.py).
export ASTERISK

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint bench bench-asterisk bench-desktop bench-routing bench-store fuzz clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 28

venv: .venv/installed ## the virtual environment in .venv, with everything that the other targets need

# Made by one at a time: two `make test` may start at once in a fresh checkout.
.venv/installed: setup.cfg pyproject.toml lab/setup.sh
	@mkdir -p var
	@PYTHON='$(PYTHON)' flock var/venv.lock sh lab/setup.sh

demo: venv ## a real call to the right agent, and then yours; with DEMO_ONCE=1 it ends after the first
	@$(PY) -m lab.demo

# mypy's cache is for one at a time, too.
lint: venv ## style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	flock var/lint.lock $(PY) -m mypy

# The tests' files go to var/tests; those of tests that failed stay there until the next run. More for pytest,
# such as one file or -x: make test TESTS='tests/unit -x'
test: lint ## style, types, and all tests, some of them on a real Asterisk
	@sh lab/test.sh $(PY) $(TESTS)

bench: venv ## calls a second on one core
	$(PY) -m tests.bench.inbound

# Some seven minutes. The libraries it compares with come by pip into an environment of their own in the cache.
bench-asterisk: venv ## FastAGI and AMI beside other libraries, and what asking us adds to a call's delay
	@$(PY) -m tests.bench.asterisk

# Some fifteen minutes, and 3 GB of disk while it runs.
bench-identify: venv ## ten million numbers in the phone index, and adapters that hang
	@$(PY) -m tests.bench.identify && $(PY) -m tests.bench.identify.hung

# Some ten minutes, most of them for the cards that Chromium paints.
bench-desktop: venv ## 5,000 event streams at once, a restart under them, and cards painted in a browser
	@$(PY) -m tests.bench.desktop

bench-routing: venv ## decisions with 200 rules and 5,000 agents, and 2,000 callers who wait for them
	@$(PY) -m tests.bench.routing

# Some twenty minutes, and 10 GB of disk while it runs.
bench-store: venv ## the central log on SQLite and PostgreSQL: writing, event streams, pages of ten million calls
	@$(PY) -m tests.bench.store

# atheris is not among what the tests need: it exists for fewer machines and versions of Python.
fuzz: venv ## both parsers fed with bytes that find new ways through them, for SECONDS=600
	@$(PY) -c 'import atheris' 2>/dev/null || \
	    $(PY) -m pip install -qq --disable-pip-version-check --root-user-action=ignore -e '.[fuzz]'
	@$(PY) -m tests.fuzz $(or $(SECONDS),600)

clean: ## remove what was made here; the cache with the private Asterisk stays (python -m lab.asterisk clean)
	rm -rf .venv var build dist cordboard.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
