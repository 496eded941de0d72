# `make` alone lists what there is. PYTHON chooses the interpreter: make venv PYTHON=python3.12; by default it is that of
# the environment that is there, else python3.
VENV ?= .venv
RUN := $(VENV)/bin/python
PYTHON ?= $(shell [ -x $(RUN) ] && echo $(RUN) || echo python3)
VERSION_OF = -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null
VERSION := $(shell $(PYTHON) $(VERSION_OF))
STAMP := $(VENV)/requirements.$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint types docs rivals clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 8

venv: $(STAMP) ## create the environment in .venv and install the pinned requirements

demo: venv ## generate lines, slim a recognizer on them (teacher, FPGM, PACT, INT8), show what it gave and cost
	$(RUN) tools/demo.py

test: venv ## run the tests
	$(RUN) -m pytest -n 2 --dist loadfile

rivals: ## install RapidOCR and PaddleOCR 2.x into .venv-rivals, for tests/test_rivals.py and tools/bench_pipeline.py
	$(PYTHON) -m venv .venv-rivals
	.venv-rivals/bin/python -m pip install --disable-pip-version-check -r requirements-rivals.txt
	.venv-rivals/bin/python -m pip install --disable-pip-version-check --no-deps paddleocr==2.9.1 imgaug==0.4.0 imageio

lint: venv ## check the style
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: venv ## check the types of what users import
	$(RUN) -m mypy

docs: venv ## build the site with the reference of the API into output/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

clean: ## remove the environment and caches; data and runs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so that an installation which was cut short is done again. An environment of another version of
# Python is made anew.
$(STAMP): requirements.txt requirements-no-deps.txt tools/check_python.sh
	@sh tools/check_python.sh $(PYTHON)
	@[ "$$($(RUN) $(VERSION_OF))" = "$(VERSION)" ] && $(RUN) -m pip --version > /dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -r requirements.txt
	$(RUN) -m pip install --disable-pip-version-check --no-deps -r requirements-no-deps.txt
	@touch $@
