# make run · make test · make lint · make bench: each sets up .venv when it is missing
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup run test test-slow lint format bench examples gallery recording clean
setup: .venv/done

# Done once; again only when the dependencies change.
.venv/done: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

run: setup
	$(BIN)/python run.py

# Two processes of one thread each use two cores better than one of two threads.
test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: setup
	$(BIN)/python -m pytest -m slow

# The scripts of examples/, as they are.
examples: setup
	$(BIN)/python -m pytest -m slow tests/test_examples.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	$(BIN)/python -m pytest -m "bench and not gpu" -s tests/benchmarks

# The README's picture of every degradation.
gallery: setup
	$(BIN)/python docs/gallery.py .github/degradations.webp

# The README's picture of a training in the terminal.
recording: setup
	$(BIN)/python docs/recording.py .github/terminal.svg logger=none

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
