# `make` shows this list; `make run` and `make test` are all that a newcomer needs.

VENV     := .venv
BIN      := $(VENV)/bin
EXTRAS   := estimate,web
PYTEST   := $(BIN)/python -m pytest
# the long runs are commands: `make soak`, `make fuzz`, `make crash`
QUICK    := not slow
ARGS     ?=

.DEFAULT_GOAL := help
.PHONY: help run web demo test check lint types arrows docs readme fuzz soak crash bench golden screenshots clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{ printf "%-20s %s\n", $$1, $$2 }'

run: $(VENV)/.installed ## install on first use, then start mitmdump with the addon (ARGS="--only-llm …")
	@exec $(BIN)/usagetap run $(ARGS)

web: $(VENV)/.installed ## the same under mitmweb
	@exec $(BIN)/usagetap run --web $(ARGS)

demo: $(VENV)/.installed ## rows in a minute: no key, no network
	@$(BIN)/usagetap demo $(ARGS)

test: $(VENV)/.installed-dev ## every test but the slow ones
	$(PYTEST) -q -m "$(QUICK)" $(ARGS)

check: lint types arrows docs test ## what must be green before a change lands

lint: $(VENV)/.installed-dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## mypy, strict
	$(BIN)/mypy

arrows: $(VENV)/.installed-dev ## import-linter: who may import whom
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/.installed-dev ## the README's generated tables are up to date
	PYTHONPATH=addon $(BIN)/cog -P --check README.md

readme: $(VENV)/.installed-dev ## write the README's generated tables
	PYTHONPATH=addon $(BIN)/cog -P -r README.md

fuzz: $(VENV)/.installed-dev ## a million random cases against the core
	PYTHONPATH=addon $(BIN)/python -m bench.fuzz $(ARGS)

soak: $(VENV)/.installed-dev ## thousands of flows with random faults through one proxy (ARGS="--flows 2000")
	PYTHONPATH=addon $(BIN)/python -m bench.soak $(ARGS)

crash: $(VENV)/.installed-dev ## kill -9 proxies under load, many times, and count what is left
	PYTHONPATH=addon $(BIN)/python -m bench.crash $(ARGS)

bench: $(VENV)/.installed-dev ## benchmarks: ratios, printed
	PYTHONPATH=addon $(BIN)/python -m bench $(ARGS)

golden: $(VENV)/.installed-dev ## write captures/**/expected.json again; read the diff
	PYTHONPATH=addon $(BIN)/python -m tests.golden.regenerate $(ARGS)

screenshots: $(VENV)/.installed-dev ## pictures of the dashboard for the docs
	PYTHONPATH=addon $(BIN)/python -m bench.screenshots $(ARGS)

clean: ## remove everything that make made
	rm -rf $(VENV) out dist build tests/e2e/node/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find addon tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# The two stamps: what the addon needs, and what its tests need on top. Newer than pyproject.toml: nothing to do.
$(VENV)/.installed: pyproject.toml
	@sh tools/venv.sh $(VENV)
	@echo "usagetap: installing (a minute, once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "usagetap: installing what the tests need (a minute, once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev --editable '.[$(EXTRAS),postgres,parquet]'
	@touch $@
