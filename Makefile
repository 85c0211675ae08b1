# make demo: install, then train and test both networks on a simulated market. make test: install, then all checks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo

.PHONY: demo test lint clean

# The environment is rebuilt when what it is made of changes.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/installed
	mkdir -p $(DEMO)
	$(BIN)/nexttick simulate --ticks 1000000 --seed 1 -o $(DEMO)/market.parquet
	$(BIN)/python run.py --type cnn $(DEMO)/market.parquet --out $(DEMO)/cnn --overwrite --epochs 6
	$(BIN)/python run.py --type rnn $(DEMO)/market.parquet --out $(DEMO)/rnn --overwrite --epochs 6
	@echo
	@echo "Predictions, scores and predictors are in $(DEMO)/cnn and $(DEMO)/rnn."

test: lint
	sh tests/browser.sh
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
