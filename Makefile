# The two commands are `make study` and `make test`; both make .venv when it is not there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
ACTIVATE = . .venv/bin/activate
WITH_CLUSTER = tests/cluster tests/deploy tests/benchmarks

.PHONY: setup setup-cluster setup-huggingface setup-openvino setup-ncnn setup-video study test test-all test-studies test-cluster test-units bench lint docs lock

setup: .venv/.setup .venv/bin/effiseg  ## .venv with what the study needs

setup-cluster: .venv/.setup requirements-cluster.txt  ## and what `python -m effiseg study --ray` needs on top
	@$(ACTIVATE) && pip install --quiet --disable-pip-version-check -r requirements-cluster.txt

setup-huggingface: .venv/.setup requirements-huggingface.txt  ## and what `python -m effiseg data fetch` needs on top
	@$(ACTIVATE) && pip install --quiet --disable-pip-version-check -r requirements-huggingface.txt

setup-openvino: .venv/.setup requirements-openvino.txt  ## and what the form `openvino` needs on top
	@$(ACTIVATE) && pip install --quiet --disable-pip-version-check -r requirements-openvino.txt

setup-ncnn: .venv/.setup requirements-ncnn.txt  ## and what the target and form `ncnn` need on top
	@$(ACTIVATE) && pip install --quiet --disable-pip-version-check -r requirements-ncnn.txt

setup-video: .venv/.setup requirements-video.txt  ## and what `predict` of videos needs on top
	@$(ACTIVATE) && pip install --quiet --disable-pip-version-check -r requirements-video.txt

study: setup  ## the whole study: checks params.yaml, then dvc repro, and tells what each stage took
	@$(ACTIVATE) && python -m effiseg check && begun=$$(date +%Y-%m-%dT%H:%M:%S) && dvc repro && \
	  python -m effiseg times --since "$$begun"

test: .venv/.dev  ## all tests but the slow ones; those that wait for other processes beside the others
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target test-studies test-cluster test-units

test-all: .venv/.dev  ## and the slow ones
	@PYTEST_ADDOPTS="-m ''" $(MAKE) --no-print-directory test

test-studies: .venv/.dev
	@$(ACTIVATE) && python -m pytest tests/pipeline

test-cluster: .venv/.dev
	@$(ACTIVATE) && python -m pytest $(WITH_CLUSTER)

test-units: .venv/.dev
	@$(ACTIVATE) && python -m pytest tests --ignore=tests/pipeline $(addprefix --ignore=,$(WITH_CLUSTER))

bench: setup  ## our ways against a careful user's, as ratios: benchmarks/results.csv
	@$(ACTIVATE) && python -m benchmarks

lint: .venv/.dev  ## ruff and mypy
	@$(ACTIVATE) && ruff check . && ruff format --check . && mypy

# not --quiet, which would keep strict from seeing a warning
docs: .venv-docs/.setup  ## the documentation as pages: site/index.html; fails on a link that leads nowhere
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

lock: .venv/.dev  ## resolve requirements*.in into requirements*.txt
	@$(ACTIVATE) && compile() { \
	    pip-compile --quiet --upgrade --strip-extras --no-annotate --no-emit-index-url --no-emit-find-links \
	      --output-file $$1.txt $$(printf '%s.in ' $$*) && sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' $$1.txt; } && \
	  compile requirements && compile requirements-cluster requirements && compile requirements-huggingface requirements && \
	  compile requirements-openvino requirements && compile requirements-ncnn requirements && \
	  compile requirements-video requirements && \
	  compile requirements-dev requirements-cluster requirements-huggingface requirements-video requirements && \
	  compile requirements-docs

.venv/.setup: requirements.txt
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "installing requirements.txt into .venv (some minutes the first time)"
	@$(ACTIVATE) && pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# `python -m effiseg` in short. No editable install: it would run this checkout's code in every copy and other checkout.
.venv/bin/effiseg: .venv/.setup
	@printf '#!/bin/sh\nexec "$${0%%/*}/python" -m effiseg "$$@"\n' > $@ && chmod +x $@

.venv/.dev: .venv/.setup requirements-dev.txt
	@echo "installing requirements-dev.txt into .venv"
	@$(ACTIVATE) && pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.venv-docs/.setup: requirements-docs.txt
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@
