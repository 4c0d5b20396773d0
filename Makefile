# The two commands: `make train` and `make test`, from a bare checkout with Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
THREADS ?= 2
INSTALLED := .venv/installed
HTML ?= build/docs/html

.PHONY: train test test-all check ruff types records docs clean

train: $(INSTALLED)
	$(BIN)/marl train experiment=default $(ARGS)

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS)

test-all: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --timeout 1800 -m "not gpu" $(ARGS)

# All that is no test, two at once. The tables of contents leave out every function: that warns of
# nothing and takes a third of Sphinx's time.
check: $(INSTALLED)
	$(MAKE) --no-print-directory --jobs 2 --output-sync ruff types records docs HTML=build/docs/check SPHINX='-D toc_object_entries=0'

ruff: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/pyright

# Tables, plots and studies are those that the records give.
records: $(INSTALLED)
	$(BIN)/marl tables --check
	$(BIN)/python docs/studies/check.py

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -q -W --keep-going -b html $(SPHINX) docs $(HTML)

# The imports at the end write bytecode of what `make train` begins with, 4 s that it then need not
# take; pip would compile all packages, most of which no run imports.
# torch comes first, so that nothing else can draw a newer build of it with gigabytes of CUDA packages.
$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("marl needs Python 3.11 or newer; set PYTHON=" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev,tensorboard]'
	$(BIN)/python -c 'import marl.cli.commands, marl.envs.vmas.env, vmas.simulator.environment'
	touch $@

clean:
	rm -rf .venv build *.egg-info
