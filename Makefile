# Everything runs from .venv, which `make` sets up from requirements.lock when it has changed.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.complete

.PHONY: setup train test test-slow check bench cluster ui demo demo-sweep screenshots lock clean

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

# About an hour and a half on two cores: what .ci/run leaves out is here.
test-slow: setup
	$(BIN)/python -m pytest -m slow $(ARGS)

check: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m pytest tests/benchmarks -m "slow or not slow" $(ARGS)

# A Ray head of this machine, for `ray job submit`: every request needs the token. Dashboard, job API and
# client are on loopback, Ray's other ports on all interfaces. The address is the machine's own second one:
# for 127.0.0.1 Ray would take the one that others see, and have the client listen there. Where nodes are to
# join, give the head's address: make cluster ADDRESS=10.0.0.1.
ADDRESS ?= 127.0.0.2
RAY_PORT ?= 6379
DASHBOARD_PORT ?= 8265
CLIENT_PORT ?= 10001

cluster: setup
	@umask 077; RAY_AUTH_MODE=token $(BIN)/ray get-auth-token --generate > /dev/null 2>&1; \
	  test ! -e "$${RAY_AUTH_TOKEN_PATH:-$$HOME/.ray/auth_token}" \
	  || chmod 600 "$${RAY_AUTH_TOKEN_PATH:-$$HOME/.ray/auth_token}"
	@PATH="$(CURDIR)/$(BIN):$$PATH" RAY_AUTH_MODE=token $(BIN)/ray start --head $(ARGS) \
	  --node-ip-address=$(ADDRESS) --port=$(RAY_PORT) --disable-usage-stats \
	  --dashboard-host=127.0.0.1 --dashboard-port=$(DASHBOARD_PORT) \
	  --ray-client-server-port=$(CLIENT_PORT) > /dev/null
	@echo "Ray runs, and ends with: .venv/bin/ray stop. To use it:"
	@echo "  source .venv/bin/activate"
	@echo "  export RAY_AUTH_MODE=token RAY_ADDRESS=http://127.0.0.1:$(DASHBOARD_PORT)"
	@echo "  ray job submit -- python jobs/train.py"

PORT ?= 5000

ui: setup
	$(BIN)/python jobs/ui.py --port $(PORT)

# The last run's test videos, indexed once, with the page to search them.
DEMO_PORT ?= 8080

demo: setup
	$(BIN)/python jobs/demo.py --port $(DEMO_PORT) $(ARGS)

# Four trials in a few minutes on two cores, for the pages to show; typed again it goes on.
DEMO := --num-trials 4 --train.num-steps 120 --train.evals-per-run 3 \
  --data.shapes.num-train 240 --data.shapes.num-val 60 --data.shapes.num-test 60
SWEEP = $${XPOOL_OUTPUT_DIR:-outputs}/sweeps/demo-sweep

demo-sweep: setup
	@if test -e "$(SWEEP)/finished"; then echo "demo-sweep is done; make ui shows it"; \
	elif test -e "$(SWEEP)/run.json"; then $(BIN)/python jobs/tune.py --resume demo-sweep; \
	else $(BIN)/python jobs/tune.py shapes --run-name demo-sweep $(DEMO); fi

# The pictures in docs/, of runs of the default experiment; needs Chromium.
screenshots: setup
	XPOOL_WHOLE_RUNS=1 XPOOL_SCREENSHOTS="$(CURDIR)/outputs/screenshots" \
	  $(BIN)/python -m pytest -m slow tests/integration/test_mlflow_pages.py tests/integration/test_demo.py
	cd outputs/screenshots && cp mlflow_run.png mlflow_compare.png search.png ../../docs

lock:
	$(BIN)/python -m uv pip compile pyproject.toml --extra dev --universal --generate-hashes \
	  --no-annotate --no-emit-index-url --quiet --custom-compile-command "make lock" \
	  --output-file requirements.lock

clean:
	rm -rf .venv outputs
