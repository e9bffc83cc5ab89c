# For GNU make.  All it needs is Python 3.11, 3.12 or 3.13; everything else is installed into .venv,
# from the locks in requirements/.  `make ... PYTHON=...` chooses the Python for .venv.

MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.PHONY: again help serve train test coverage attack newcomer clients browser pages accelerators lint format lock bench tables soak image sbom release clean install-serve install-train install-dev install-clients install-accelerators
.DELETE_ON_ERROR:

export PYTHON

bin := .venv/bin
specs := $(wildcard training/specs/*.toml)
learned_from := $(wildcard training/*.py training/data/*) service/signature.py service/metadata.py service/reference.py $(wildcard service/insight/drift/*.py) service/inference/model.py service/inference/runner.py service/inference/arrays.py

# A variable on the command line of make takes precedence over the environment, which the service
# reads itself.
flag = $(if $(filter command,$(firstword $(origin $1))),$2 '$($1)')

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 17

serve: install-serve ## serve the models of models/ on 127.0.0.1:8080 (PORT=, HOST=)
	@exec $(bin)/triceps serve $(call flag,HOST,--host) $(call flag,PORT,--port)

train: $(specs:training/specs/%.toml=build/trained/%) ## train the shipped specs into models/, if something has changed
	@echo "models/ has a version of each of: $(specs)"

# The tests of a file run in one process, since they share servers and models.
parallel := --numprocesses auto --maxprocesses 4 --dist loadfile
test: lint ## lint, then run all tests on all processors, but for those in a browser (ARGS=)
	@$(bin)/python -m pytest $(parallel) -m "not browser" $(ARGS)
	@$(MAKE) clients

coverage: install-dev ## run all tests and check their coverage of the code (ARGS=)
	@$(bin)/python -m pytest $(parallel) -m "not browser" --cov $(ARGS)

pages: install-dev browser ## run the tests of pages in Chromium (ARGS=)
	@$(bin)/python -m pytest $(parallel) -m browser tests/service/api/console tests/training/report $(ARGS)

attack: install-dev ## attack a service in every way while a client checks its answers (ARGS=--write: docs/attack.md)
	@$(bin)/python -m pytest tests/attack --attack $(ARGS)

newcomer: install-dev ## do a newcomer's first tasks from a fresh clone, by the blocks of the documentation (ARGS=)
	@$(bin)/python -m pytest tests/newcomer --newcomer $(ARGS)

# Each file has a process of its own, since two clients declare protobuf messages of the same names.
clients: install-clients ## run the tests with the clients of KServe, MLflow and Triton, httpx, shap and a store of objects
	@set -e; for file in tests/clients/test_*.py; do build/clients/bin/python -m pytest $$file; done

# A page cannot be drawn without any font, which Debian's Chromium only recommends.
CHROMIUM = $(shell for program in chromium chromium-browser google-chrome; do command -v $$program && break; done)
browser: ## install Debian's Chromium, in which pages are tested, if there is none and root asks
	@[ -n "$(CHROMIUM)" ] || { [ "$$(id -u)" = 0 ] && apt-get -q update && DEBIAN_FRONTEND=noninteractive \
		apt-get -qy install --no-install-recommends chromium fonts-liberation; } || \
		echo "triceps: there is no Chromium, so the tests of pages are skipped; on Debian, as root:" \
			"apt-get install chromium fonts-liberation" >&2

accelerators: install-accelerators ## run the tests of execution providers with the ONNX Runtime of OpenVINO
	@build/accelerators/bin/python -m pytest tests/service/inference/test_accelerators.py $(ARGS)

lint: install-dev ## check style, format, types and the Dockerfile
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy
	@$(bin)/hadolint Dockerfile

format: install-dev ## format the code, and fix what ruff can fix
	@$(bin)/ruff format
	@$(bin)/ruff check --fix

# dev has everything, so it is resolved first, and the smaller sets take their versions from it.
# That of the clients does too, except for these packages, of which the clients need older versions.
held_back := greenlet|grpcio-tools|ml-dtypes|pandas|protobuf|python-dateutil
compile := $(bin)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --only-binary :all: --generate-hashes --no-annotate \
	--no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
lock: install-dev ## update requirements/ from pyproject.toml (UPGRADE=1: to the newest releases)
	@$(compile) --all-extras --group build -o requirements/dev.txt
	@$(compile) --extra train -c requirements/dev.txt -o requirements/train.txt
	@$(compile) -c requirements/dev.txt -o requirements/serve.txt
	@$(compile:pyproject.toml=) --group build -c requirements/dev.txt -o requirements/build.txt
	@sed -E '/^($(held_back))==/,/[^\\]$$/d' requirements/dev.txt | \
		$(compile) --group clients -c - -o requirements/clients.txt
	@$(compile) --group accelerators --no-emit-package onnxruntime -c requirements/dev.txt \
		-o requirements/accelerators.txt

# The peers have an environment of their own, so that their dependencies are not those of Triceps.
bench: install-dev ## measure the service and its peers (needs wrk; ARGS=--quick for a short run)
	@[ -x build/bench/venv/bin/python ] || $(bin)/uv venv --quiet --python $(bin)/python build/bench/venv
	@$(bin)/uv pip install --quiet --python build/bench/venv/bin/python -r benchmarks/peers/requirements.txt
	@$(bin)/python -m benchmarks.bench $(or $(ARGS),--slow-sender --write)

tables: install-dev ## compare the models of triceps init with those of scikit-learn on public tables (ARGS=--write)
	@[ -x build/tables/venv/bin/python ] || $(bin)/uv venv --quiet --python $(bin)/python build/tables/venv
	@$(bin)/uv pip install --quiet --python build/tables/venv/bin/python -r benchmarks/peers/tables.txt
	@$(bin)/python -m benchmarks.tables $(or $(ARGS),--write)

soak: install-dev ## send a service all kinds of requests for ten minutes, and check that it does not degrade (SECONDS=)
	@$(bin)/python -m benchmarks.soak --write $(SECONDS)

# This needs no Python.  IMAGE_ARGS goes to the engine, for example
# --secret id=ca,src=certificates.pem.  buildah and podman keep the HEALTHCHECK only in docker's
# format.
ENGINE = $(shell for engine in docker podman buildah; do command -v $$engine && break; done)
label = --label org.opencontainers.image.$1="$$($2)"
image: ## build the image triceps with docker, podman or buildah (TARGET=train: triceps-train)
	@[ -n "$(ENGINE)" ] || { echo "triceps: expected docker, podman or buildah, found none" >&2; exit 1; }
	@BUILDAH_FORMAT=docker $(ENGINE) build $(IMAGE_ARGS) $(if $(TARGET),--target $(TARGET)) \
		$(call label,version,sed -n 's/^__version__ = "\(.*\)"/\1/p' service/__init__.py) \
		$(call label,revision,git rev-parse HEAD) \
		--tag $(or $(TAG),triceps$(addprefix -,$(TARGET))) .

sbom: install-dev ## write build/triceps.cdx.json, the bill of materials of the image's Python packages (CycloneDX)
	@$(bin)/uv venv --quiet --clear --python $(bin)/python build/sbom
	@$(bin)/uv pip install --quiet --python build/sbom --require-hashes -r requirements/serve.txt
	@$(bin)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/triceps.cdx.json build/sbom/bin/python

release: sbom ## build and test a release of HEAD: wheel, sdist, bill of materials and checksums in dist/
	@$(bin)/python deploy/release.py build/triceps.cdx.json

clean: ## remove .venv and everything that make has built, except models
	@rm -rf .venv build dist

install-serve: ## install what serving needs into .venv
install-train: ## install what training needs too: TensorFlow and Keras
install-dev: ## install everything that contributors need too
install-clients: install-dev ## install these clients into build/clients
install-accelerators: install-dev ## install the ONNX Runtime of OpenVINO into build/accelerators
install-serve install-train install-dev install-clients install-accelerators: install-%:
	@requirements/install $*

# A model that has been removed is trained again, even if its stamp is up to date.
.SECONDEXPANSION:
build/trained/%: training/specs/%.toml $(learned_from) $$(if $$(wildcard models/$$*/*/model.onnx),,again) | install-train
	@$(bin)/triceps train $<
	@mkdir -p $(@D) && touch $@
