# All a fresh machine needs is make and Python 3.11 or later.
PYTHON ?= python3
BIN := .venv/bin
LOCK := requirements/dev.txt

.PHONY: install demo test lint bench lock clean
install: .venv/installed

.venv/installed: $(LOCK) requirements/bootstrap.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Upwell needs Python 3.11 or later: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	$(BIN)/upwell demo --headless

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

test: lint
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow" --durations=25
	$(BIN)/pytest -n 2 --dist loadfile -m slow --durations=60

bench: install
	$(BIN)/upwell bench world --users 100000

lock:
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate --extra envs --extra learn --extra service --extra redis --extra kafka --extra export --extra llm --group dev pyproject.toml -o $(LOCK)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate pyproject.toml -o requirements/base.txt
	printf 'uv\nhatchling\neditables\n' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate - -o requirements/bootstrap.txt

clean:
	rm -rf .venv dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis .jax_cache
