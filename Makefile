PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test fuzz

help: ## Show this help
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): requirements.txt setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

install: $(INSTALLED) ## Make a virtual environment in .venv and install everything

demo: install ## Run the whole workflow in its quick size, then show some answers
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m weasel run all . --vars.size quick
	$(BIN)/python -m metaie demo training/distill/model-best --output demo.html

test: install ## Run the tests and the linters
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest --cov --cov-fail-under=90

fuzz: install ## Fuzz the parser of answers for five minutes (Linux)
	$(BIN)/python -m pip install --quiet atheris==3.0.0
	$(BIN)/python tests/fuzz/fuzz_parsing.py -max_total_time=300
