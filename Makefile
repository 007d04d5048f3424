# Everything runs from .venv, which `make` sets up from requirements.lock when it has changed.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.complete

.PHONY: setup train test check bench ui lock clean

setup: $(SETUP)

$(SETUP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[0-9.]*\).*/\1/p' requirements.lock)"
	$(BIN)/python -m uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(SETUP)

train: setup
	$(BIN)/python jobs/train.py $(ARGS)

test: check
	$(BIN)/python -m pytest $(ARGS)

check: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m pytest tests/benchmarks -m "slow or not slow" $(ARGS)

ui: setup
	$(BIN)/python -m mlflow ui --backend-store-uri "sqlite:///$(CURDIR)/outputs/mlflow.db"

lock:
	$(BIN)/python -m uv pip compile pyproject.toml --extra dev --universal --generate-hashes \
	  --no-annotate --no-emit-index-url --quiet --custom-compile-command "make lock" \
	  --output-file requirements.lock

clean:
	rm -rf .venv outputs
