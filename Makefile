# For GNU make.  With Python 3.11, 3.12 or 3.13, everything else is installed into .venv, from
# the locks under requirements/.  `make ... PYTHON=...` names the Python to make .venv with.

MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.PHONY: again help serve train test coverage attack clients lint format lock bench soak image sbom release clean install-serve install-train install-dev install-clients
.DELETE_ON_ERROR:

export PYTHON

bin := .venv/bin
specs := $(wildcard training/specs/*.toml)
learned_from := $(wildcard training/*.py training/data/*) service/signature.py service/metadata.py service/inference/model.py service/inference/runner.py service/inference/arrays.py

# A variable given to make itself wins over the environment, which the service reads on its own.
flag = $(if $(filter command,$(firstword $(origin $1))),$2 '$($1)')

help: ## list what make can do
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 10

serve: install-serve ## serve the models of models/ on 127.0.0.1:8080 (PORT=, HOST=)
	@exec $(bin)/triceps serve $(call flag,HOST,--host) $(call flag,PORT,--port)

train: $(specs:training/specs/%.toml=build/trained/%) ## train the shipped specs into models/, where something changed
	@echo "models/ has a version of each of: $(specs)"

# A file's tests stay together, since they share servers and models.
parallel := --numprocesses auto --maxprocesses 4 --dist loadfile
test: lint ## lint, then run the whole suite on all processors (ARGS=)
	@$(bin)/python -m pytest $(parallel) $(ARGS)
	@$(MAKE) clients

coverage: install-dev ## run the suite once more, and see that the code is covered (ARGS=)
	@$(bin)/python -m pytest $(parallel) --cov $(ARGS)

attack: install-dev ## attack a service in every way, beside a caller who is to notice nothing (ARGS=--write: docs/attack.md)
	@$(bin)/python -m pytest tests/attack --attack $(ARGS)

clients: install-clients ## run the tests with KServe's, MLflow's and Triton's own clients
	@build/clients/bin/python -m pytest tests/clients

lint: install-dev ## check style, format and types, and the Dockerfile
	@$(bin)/ruff check
	@$(bin)/ruff format --check
	@$(bin)/mypy
	@$(bin)/hadolint Dockerfile

format: install-dev ## format, and mend what can be mended
	@$(bin)/ruff format
	@$(bin)/ruff check --fix

# dev has everything, so it is resolved first, and the smaller sets are cut from it.  The clients'
# has the same versions, but for these, of which the clients want older ones.
held_back := ml-dtypes|pandas|protobuf|python-dateutil
compile := $(bin)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --only-binary :all: --generate-hashes --no-annotate \
	--no-strip-extras --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
lock: install-dev ## write requirements/ anew from pyproject.toml (UPGRADE=1: with the newest releases)
	@$(compile) --all-extras --group build -o requirements/dev.txt
	@$(compile) --extra train -c requirements/dev.txt -o requirements/train.txt
	@$(compile) -c requirements/dev.txt -o requirements/serve.txt
	@$(compile:pyproject.toml=) --group build -c requirements/dev.txt -o requirements/build.txt
	@sed -E '/^($(held_back))==/,/[^\\]$$/d' requirements/dev.txt | \
		$(compile) --group clients -c - -o requirements/clients.txt

# The peers have an environment of their own, so that their needs are not ours.
bench: install-dev ## measure the service beside its peers (needs wrk; ARGS=--quick for a short run)
	@[ -x build/bench/venv/bin/python ] || $(bin)/uv venv --quiet --python $(bin)/python build/bench/venv
	@$(bin)/uv pip install --quiet --python build/bench/venv/bin/python -r benchmarks/peers/requirements.txt
	@$(bin)/python -m benchmarks.bench $(or $(ARGS),--slow-sender --write)

soak: install-dev ## ask a service everything for ten minutes, and see that it stays as it was (SECONDS=)
	@$(bin)/python -m benchmarks.soak --write $(SECONDS)

# Needs no Python here.  IMAGE_ARGS is for the engine: --secret id=ca,src=certificates.pem, say.
# buildah and podman drop the HEALTHCHECK, unless the format is docker's.
ENGINE = $(shell for engine in docker podman buildah; do command -v $$engine && break; done)
label = --label org.opencontainers.image.$1="$$($2)"
image: ## build the image triceps, with docker, podman or buildah (TARGET=train: triceps-train)
	@[ -n "$(ENGINE)" ] || { echo "triceps: expected docker, podman or buildah, found none" >&2; exit 1; }
	@BUILDAH_FORMAT=docker $(ENGINE) build $(IMAGE_ARGS) $(if $(TARGET),--target $(TARGET)) \
		$(call label,version,sed -n 's/^__version__ = "\(.*\)"/\1/p' service/__init__.py) \
		$(call label,revision,git rev-parse HEAD) \
		--tag $(or $(TAG),triceps$(addprefix -,$(TARGET))) .

sbom: install-dev ## write build/triceps.cdx.json: what the image has of Python, in CycloneDX's words
	@$(bin)/uv venv --quiet --clear --python $(bin)/python build/sbom
	@$(bin)/uv pip install --quiet --python build/sbom --require-hashes -r requirements/serve.txt
	@$(bin)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/triceps.cdx.json build/sbom/bin/python

release: sbom ## write wheel, sdist, bill of materials and checksums of HEAD into dist/, and try them
	@$(bin)/python deploy/release.py build/triceps.cdx.json

clean: ## remove .venv and everything else that make made, but no model
	@rm -rf .venv build dist

install-serve install-train install-dev install-clients: install-%:
	@requirements/install $*
install-clients: install-dev

# A model that was removed is trained again, whatever the stamp says.
.SECONDEXPANSION:
build/trained/%: training/specs/%.toml $(learned_from) $$(if $$(wildcard models/$$*/*/model.onnx),,again) | install-train
	@$(bin)/triceps train $<
	@mkdir -p $(@D) && touch $@
