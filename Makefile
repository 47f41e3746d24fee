# Two commands do everything: `make demo` and `make test`. Each makes .venv and installs what it
# needs, once; both are quick the second time.

# The newest Python that the project supports, unless PYTHON names one.
PYTHON ?= $(shell for v in 3.13 3.12 3.11; do command -v python$$v >/dev/null 2>&1 && \
	python$$v -c 'import ensurepip' 2>/dev/null && echo python$$v && exit; done; echo python3)
BIN := .venv/bin
CORPUS := examples/semantic-search
QUERIES ?= "How can I calm a barking dog?" "a quick dinner" "my computer lost its files"

.PHONY: demo test lint bench examples features clean

demo: .venv/demo.stamp
	@$(BIN)/wasinn models build minilm
	@$(BIN)/wasinn run --nn-preload minilm \
		--dir "$$($(BIN)/wasinn models path minilm --directory)::/model::ro" \
		--dir $(CORPUS)::/corpus::ro \
		$(CORPUS)/semantic-search.wasm \
		--vocab /model/vocab.txt --model minilm --corpus /corpus/corpus.txt --top 3 $(QUERIES)

# Quick tests first; the rest after them.
test: .venv/test.stamp lint
	$(BIN)/python -m pytest -q -n 2 -m "not slow"
	$(BIN)/python -m pytest -q -n 2 -m slow

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/test.stamp
	$(BIN)/python -m benchmarks all

# The README's table of what runs in which mode.
features: .venv/test.stamp
	$(BIN)/python scripts/feature_table.py --write

examples: .venv/test.stamp
	$(BIN)/python examples/build.py

.venv/python.stamp:
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
		sys.exit(0 if (3, 11) <= v < (3, 14) else f"wasinn needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

.venv/demo.stamp: .venv/python.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[models]'
	@touch $@

.venv/test.stamp: .venv/python.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ .venv/demo.stamp

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
