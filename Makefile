# Everything a developer or CI runs. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
# The first Python on the PATH that the suite supports; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)
# Where `python -m trunkline_audio.models` keeps speech models.
MODELS := $(or $(TRUNKLINE_MODELS_FOLDER),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/trunkline/models)
INPUTS := $(wildcard libs/*/pyproject.toml services/*/pyproject.toml cli/pyproject.toml) requirements/dev.txt
# Where tests are, as in pyproject.toml; those that run by themselves are looked for, since importing all others takes long.
TESTS := tests services libs cli
# How many processes run the tests: many tests wait for processes, and a second worker works meanwhile.
WORKERS ?= 2

export PYTHONDONTWRITEBYTECODE :=

$(VENV)/.ready: $(INPUTS)
	@if [ -z "$(PYTHON)" ]; then echo "Trunkline needs Python 3.11, 3.12, 3.13 or 3.14 on the PATH (python3 is \
	$$(python3 --version 2>&1)); PYTHON=/path/to/python make ... names one" >&2; exit 1; fi
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements/dev.txt)"
	@$(BIN)/uv pip sync --quiet --compile-bytecode requirements/dev.txt
	@$(BIN)/uv pip install --quiet --no-deps $(patsubst %/pyproject.toml,-e ./%,$(filter %.toml,$(INPUTS)))
	@touch $@

.PHONY: help setup demo up watch pictures test e2e lint settings envoy proto eval train bench chaos simulate backup restore lock alone images cluster-test tools clean
help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Install everything, all packages editable, and fetch the speech model (145 MB) once
	@[ -f "$(MODELS)/base/model.bin" ] || $(RUN) trunkline_audio.models fetch base

demo: setup ## Every sample call from webhook to analysis, through the real processes; STORE=spanner: on its emulator; MTLS=1
	@$(BIN)/trunkline demo $(if $(STORE),--store $(STORE)) $(if $(MTLS),--mtls)

up: setup ## Serve until Ctrl-C; URLs and keys are printed and in var/dev.json; STORE=spanner; MTLS=1
	@$(BIN)/trunkline up $(if $(STORE),--store $(STORE)) $(if $(MTLS),--mtls)

watch: setup tools ## As `make up`, with a Prometheus beside it that has the rules, and Grafana where it is installed
	@$(RUN) tools.watch

pictures: setup tools ## Draw docs/dashboards/, from a suite under minutes of webhooks and the answers of its Prometheus
	@$(RUN) tools.watch.pictures

test: setup tools ## All tests: WORKERS=2 processes share the files, then what measures time runs by itself
	@failed=0; \
	rm -f .pytest_cache/v/cache/lastfailed; \
	$(RUN) pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not alone and not cluster" \
	|| $(RUN) tools.again || failed=1; \
	$(RUN) pytest -m alone $$(grep -rl --include='test_*.py' 'pytest.mark.alone' $(TESTS)) || failed=1; \
	exit $$failed

lint: setup ## ruff, mypy, import direction, buf lint and breaking, generated code as committed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy libs services cli tools
	$(BIN)/lint-imports
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf lint
	$(BIN)/buf breaking protos --against protos/baseline.binpb
	$(RUN) tools.make_proto --check
	$(RUN) tools.make_settings --check
	$(RUN) tools.make_metrics --check

settings: setup ## Write docs/settings.md, docs/metrics.md, and what deploy/ has of them: settings, rules, dashboards
	$(RUN) tools.make_settings
	$(RUN) tools.make_metrics

envoy: setup ## Write Envoy's configuration, build/envoy.json and those of k8s/, and have the real Envoy check it
	@$(BIN)/trunkline edge config $(FILE) --self-signed
	@$(BIN)/envoy --mode validate -c build/envoy.json -l error
	@$(RUN) tools.make_envoy

proto: setup ## Generate libs/contracts from protos/
	$(RUN) tools.make_proto

eval: setup ## How right engines are; DATA=file.jsonl for your own, ENGINE="local openai" names and compares engines
	@$(RUN) tools.eval $(if $(DATA),--data $(DATA)) $(ENGINE:%=--engine %)

train: setup ## Train the local language engine's model from tests/data/analysis; the same data gives the same file
	@$(RUN) tools.train

# `make bench ingest`: what follows is a name, not a target.
ifeq (bench,$(firstword $(MAKECMDGOALS)))
BENCHES := $(wordlist 2,99,$(MAKECMDGOALS))
.PHONY: $(BENCHES)
$(eval $(BENCHES):;@:)
endif

bench: setup tools ## Figures beside their targets: make bench [ingest|pipeline|audio|start ...]; KEYS="..." of audio
	@$(RUN) tools.bench $(BENCHES) $(if $(KEYS),--keys "$(KEYS)")

chaos: setup ## Kill processes at random moments under load; ROUNDS=20, SEED=n repeats a run's plan
	@$(RUN) tools.chaos --rounds $(or $(ROUNDS),20) $(if $(SEED),--seed $(SEED))

simulate: setup ## 100,000 seeded schedules in virtual time; SCHEDULES=n, SEED=n repeats one and tells its story
	@$(RUN) tests.simulation $(if $(SEED),--seed $(SEED),--schedules $(or $(SCHEDULES),100000))

backup: setup ## Copy the state under var/, also while it is in use; TO=folder
	@$(BIN)/trunkline backup $(if $(TO),--to "$(TO)")

restore: setup ## Put a backup in the place of the state under var/, which is moved aside: FROM=folder
	@$(BIN)/trunkline restore "$(or $(FROM),$(error make restore FROM=folder))"

lock: setup ## Resolve every lock anew
	@$(RUN) tools.lock

alone: setup ## Each service by itself: its own lock, started, asked for its health
	@$(RUN) tools.alone

images: setup ## An image for each service with docker, podman, or buildah; REPOSITORY=host/path/ TAG=version
	@$(RUN) tools.images $(if $(REPOSITORY),--repository "$(REPOSITORY)") $(if $(TAG),--tag "$(TAG)")

cluster-test: setup ## The manifests against a real Kubernetes control plane; builds it first, with Go, which takes minutes
	@$(RUN) tools.cluster.build
	@$(RUN) pytest -m cluster tests/cluster

tools: setup ## grpcurl, fake-gcs-server, kube-score, compose-go, Alertmanager (by Go), Prometheus and Caddy (by apt-get), llama.cpp, in .tools/
	@$(RUN) tools.install

clean: ## Remove what was built and what ran, var/ with its backups and the virtual environment too
	@[ ! -f var/up.lock ] || $(PYTHON) -c \
	"import fcntl; fcntl.flock(open('var/up.lock'), fcntl.LOCK_EX | fcntl.LOCK_NB)" 2>/dev/null || \
	{ echo "make up is running here ($$(cat var/up.lock)): stop it first" >&2; exit 1; }
	rm -rf build var .tools $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
