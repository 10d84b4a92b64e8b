# Everything a newcomer, a developer and the gate call. `make help` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Kept inside the folder, for an account whose home cannot be written to.
export UV_CACHE_DIR ?= $(VENV)/cache/uv
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help run test fuzz drill check lint types layers format lock migrations bench bench-steady dashboards picture audit sbom clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/installed ## start everything with the demo; Ctrl-C stops it
	@exec $(BIN)/evergrant up --demo --with-parent $(UP_OPTIONS)

test: $(VENV)/installed-dev ## run the tests, on a real PostgreSQL and a real Valkey
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

fuzz: $(VENV)/installed-dev ## look for three minutes for an answer that raises, loses a token or shows a secret
	EVERGRANT_TEST_SECONDS=60 $(BIN)/python -m pytest -q tests/contract/test_fuzzed_answers.py $(PYTEST_OPTIONS)

drill: $(VENV)/installed ## the fault campaign: kills, restarts and cuts everything, then counts what was lost
	@exec $(BIN)/evergrant drill --rotations 5000 --faults 300 $(DRILL_OPTIONS)

check: lint types layers migrations ## everything the gate checks without running tests

lint: $(VENV)/installed-dev ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev ## mypy, strict
	$(BIN)/mypy

layers: $(VENV)/installed-dev ## import-linter: which layer may import which
	$(BIN)/lint-imports

migrations: $(VENV)/installed-dev ## the migrations make what the models say, on a real PostgreSQL
	$(BIN)/python -m tests.support.alembic_check

bench: $(VENV)/installed-bench ## measure speed and scale beside what a user would write; BENCH_OPTIONS="--quick"
	@PYTHONPATH=$(CURDIR)/$(VENV)/bench $(BIN)/python -m tests.bench $(BENCH_OPTIONS)

bench-steady: $(VENV)/installed-bench ## of that, the steady state of a million grants alone, for ten minutes
	@PYTHONPATH=$(CURDIR)/$(VENV)/bench $(BIN)/python -m tests.bench --only steady $(BENCH_OPTIONS)

dashboards: $(VENV)/installed-dev ## write the dashboards of deploy/grafana
	$(BIN)/python -m tests.monitoring.dashboards

picture: $(VENV)/installed-dev ## take README's pictures of the console
	$(BIN)/python -m tests.browser.take_picture

audit: $(VENV)/installed-supply ## hold what is installed against known vulnerabilities, where the data can be had
	@$(BIN)/python -m tests.supply_chain.audit $(AUDIT_OPTIONS)

sbom: $(VENV)/installed-supply ## list what the image installs, as CycloneDX, in dist/evergrant.cdx.json
	@$(BIN)/python -m tests.supply_chain.sbom

format: $(VENV)/installed-dev ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/uv-installed ## pin all dependencies with hashes, without any download address
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --extra embedded pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --extra embedded --extra traces --group dev pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --extra traces -c requirements-dev.lock pyproject.toml -o requirements-base.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --group build -o requirements-build.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --group bench -c requirements-dev.lock -o requirements-bench.lock
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --group supply -o requirements-supply.lock

clean: ## remove the virtual environment and caches; the data in .evergrant stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/uv-installed: .ci/uv.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --require-hashes --only-binary :all: -r .ci/uv.lock
	@touch $@

$(VENV)/installed: $(VENV)/uv-installed requirements.lock pyproject.toml
	$(call install,requirements.lock)

$(VENV)/installed-dev: $(VENV)/uv-installed requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock)
	@touch $(VENV)/installed

# Beside the product, not in it: nothing of it changes what is measured, or what other targets find.
$(VENV)/installed-bench: $(VENV)/installed requirements-bench.lock
	$(call install_beside,bench)

$(VENV)/installed-supply: $(VENV)/installed requirements-supply.lock
	$(call install_beside,supply)

# uv takes seconds; where it cannot reach the index that pip is set up for, pip does the same from the same lock.
define install
	@echo "installing $(1)"
	@$(BIN)/uv pip install -q --python $(BIN)/python --require-hashes -r $(1) \
		|| $(BIN)/python -m pip install -q --require-hashes -r $(1)
	@echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/evergrant-checkout.pth"
	@printf '#!%s\nfrom worker.cli import main\nmain()\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/evergrant
	@chmod +x $(BIN)/evergrant
	@touch $@
endef

# Into a folder of its own, which only what asks for it sees.
define install_beside
	@echo "installing requirements-$(1).lock"
	@rm -rf $(VENV)/$(1)
	@$(BIN)/uv pip install -q --python $(BIN)/python --target $(VENV)/$(1) --require-hashes -r requirements-$(1).lock \
		|| $(BIN)/python -m pip install -q --target $(VENV)/$(1) --require-hashes -r requirements-$(1).lock
	@touch $@
endef
