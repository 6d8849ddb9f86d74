# Every target works from a fresh clone: it sets up .venv first, from lock files with hashes.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.relto-setup
TEST_JOBS ?= 2

.PHONY: help setup check fix test sim demo bench soak docs lock clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'

setup: $(STAMP)  ## create .venv from the lock files

$(STAMP): requirements/dev.txt requirements/fuzz.txt requirements/solvers.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "relto needs Python 3.11 or newer: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "python3 cannot make a virtual environment: on Debian, apt install python3-venv"; exit 2; }
	@echo "setting up .venv (once, about a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements/fuzz.txt 2>/dev/null || echo "atheris has no wheel for this Python: its fuzz tests will say so and be skipped"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements/solvers.txt 2>/dev/null || echo "z3 or cvc5 has no wheel here: tests of second opinions will say so and be skipped"
	@touch $(STAMP)

check: $(STAMP)  ## format, lint and type checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy src tests bench

fix: $(STAMP)  ## format and repair what ruff can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(STAMP)  ## run every test
	$(BIN)/pytest -n $(TEST_JOBS) --dist worksteal

sim: $(STAMP)  ## one simulated schedule, byte for byte: its story and its trace hash (SEED=n)
	@PYTHONPATH=tests $(BIN)/python -m sim $(or $(SEED),0)

demo: $(STAMP)  ## three nodes on loopback play December 2014
	$(BIN)/python -m relto.apps.demo

bench: $(STAMP)  ## measure everything (PART=name: one part; JSON=file: figures for programs)
	@$(BIN)/python -m bench $(if $(PART),--part $(PART)) $(if $(JSON),--json $(JSON))

soak: $(STAMP)  ## long campaigns, results for evidence/: CRASH=n kills (and every system call), SIM=n schedules (FIRST=n: from this seed), EXPLORE=1 every order of a few things, TWO=n pairs of worlds for each party, LARGE=1 payloads of 1 GiB, HOSTILE=1 honest items under attack, OVERLOAD=1 ten times what three nodes can carry, UPGRADE=commit rolling upgrade from there, MOVES=n questions to the prover's model, SOLVERS=n regimes to Z3 and cvc5
	$(if $(CRASH),PYTHONPATH=tests $(BIN)/python -m crash --kills $(CRASH))
	$(if $(SIM),PYTHONPATH=tests $(BIN)/python -m sim $(or $(FIRST),10000) $(SIM))
	$(if $(EXPLORE),PYTHONPATH=tests $(BIN)/python -m sim explore)
	$(if $(TWO),PYTHONPATH=tests $(BIN)/python -m soak_two_worlds $(TWO))
	$(if $(UPGRADE),PYTHONPATH=tests $(BIN)/python -m soak_upgrade $(UPGRADE))
	$(if $(HOSTILE),PYTHONPATH=tests $(BIN)/python -m hostile)
	$(if $(OVERLOAD),PYTHONPATH=tests $(BIN)/python -m hostile.overload)
	$(if $(SOLVERS),PYTHONPATH=tests $(BIN)/python -m soak_solvers $(SOLVERS))
	$(if $(MOVES),PYTHONPATH=tests $(BIN)/python -m soak_moves $(MOVES))
	$(if $(LARGE),RELTO_LARGE_MIB=1024 $(BIN)/pytest -q -s tests/e2e/test_large.py)

docs: $(STAMP)  ## check that every documented command and link is true
	$(BIN)/pytest -q tests/test_docs.py

lock:  ## make the lock files anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev pyproject.toml -o requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group documents pyproject.toml -o requirements/documents.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group fuzz -o requirements/fuzz.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group solvers -o requirements/solvers.txt

clean:  ## remove .venv and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
