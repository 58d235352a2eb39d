# Needs Python 3.10 to 3.13 and make, nothing else.
#   make demo                      the whole of it on a drawn drive
#   make test                      lint, types and the tests of the first tier, as CI runs them; make lint for the first two
#   make test-all                  lint, types, all tests and their coverage; test/README.md says more
#   make test-newest               the tests with the newest libraries that are published; make test-oldest with the oldest
#                                  that setup.py admits (PYTHON=python3.10 or 3.11)
#   make soak [MINUTES=30]         the node under more load than it can answer
#   make fuzz [SECONDS=60]         coverage-guided fuzzing of everything that is read, each target for so long
#   make mutants                   mutation testing of rules, scores and the specification of fusion
#   make .venv                     the set-up alone, of what runs; make dev-tools adds what `make test` needs, make
#                                  export-tools what `classaug export` needs, make gpu-tools what the GPU path is tested with
#   make locks                     the newest versions into the locks, requirements/*.txt (needs uv)
#   PYTHON=python3.12 make test    another Python
#   ROS_DISTRO=jazzy make test     the ROS 2 wheels to install where Python has no rclpy (kilted or jazzy)

PYTHON ?= python3
ROS_DISTRO ?= kilted

SHELL := /bin/sh
.SHELLFLAGS := -ec
.ONESHELL:
.PHONY: .python .venv demo test test-all test-newest test-oldest lint clean dev-tools export-tools fuzz gpu-tools locks mutants soak

PY := .venv/bin/python
# The stamp names what .venv was made of, so that another Python or ROS makes it anew.
READY := .venv/ready-$(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>&1 | tail -n 1 | tr -c 'A-Za-z0-9.\n' -)-$(ROS_DISTRO)

demo: .venv
	@$(PY) -m demo.run

# Plugins that something else brought along stay out.
PYTEST := pytest -p pytest_timeout -p xdist -n 2 --dist worksteal
test: lint
	@export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
	$(PY) -m $(PYTEST) -m "not slow"

test-all: lint
	@export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 COVERAGE_FILE=$(CURDIR)/.venv/coverage
	$(PY) -m coverage erase
	$(PY) -m coverage run -m $(PYTEST)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

lint: dev-tools
	@$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-cache > .venv/imports || { cat .venv/imports; exit 1; }

# Half an hour of more frames than can be answered, or MINUTES of them.
MINUTES ?= 30
soak: dev-tools
	@$(PY) test/soak.py --minutes $(MINUTES)

# Coverage-guided, SECONDS for each target; atheris has wheels for some Pythons only, see requirements/fuzz.in.
SECONDS ?= 60
fuzz: dev-tools
	@$(PYTHON) requirements/set_up.py .venv --add fuzz
	$(PY) fuzz/run.py --seconds $(SECONDS)

# Of each line of the rules, the scores and the specification of fusion: what is changed, and what no test minds.
mutants: dev-tools
	@$(PYTHON) requirements/set_up.py .venv --add mutants
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(PY) -m mutmut run
	$(PY) -m mutmut results

# Environments of their own. The newest are looked up anew each time.
test-newest test-oldest: .python
	@folder=.venv-$(@:test-%=%)
	$(PYTHON) requirements/set_up.py $$folder $(@:test-%=%)
	$$folder/bin/python -m pip list --disable-pip-version-check
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $$folder/bin/python -m $(PYTEST) -m "not slow"

# Their tests are left out of `make test` where the last two were never run: PyTorch is large.
dev-tools export-tools gpu-tools: .venv
	@if ! [ .venv/$@ -nt $(READY) ]; then
		$(PYTHON) requirements/set_up.py .venv --add $(@:-tools=) $(if $(filter dev-tools,$@),cityscapesscripts,torch)
		touch .venv/$@
	fi

# After a change of requirements/*.in or of setup.py: what is published when it is run is installed from then on.
LOCK = UV_CUSTOM_COMPILE_COMMAND="make locks" uv pip compile --quiet --upgrade --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --python-version 3.10
locks:
	@command -v uv > /dev/null || { echo "make: the locks are made by uv, a package on PyPI, which is not here" >&2; exit 1; }
	cd requirements
	for ros in kilted jazzy system; do
		$(LOCK) --universal --extra fast ../setup.py $$ros.in dev.in -o $$ros-dev.txt
		$(LOCK) --universal --extra fast ../setup.py $$ros.in -c $$ros-dev.txt -o $$ros.txt
	done
	for tools in export gpu fuzz mutants; do
		$(LOCK) --universal $$tools.in -c kilted-dev.txt --no-emit-package numpy -o $$tools.txt
	done
	$(LOCK) --no-deps cityscapesscripts.in -o cityscapesscripts.txt
	sed -n 's/^ *"\([A-Za-z-]*\)>=\(.*\)",$$/\1==\2.*/p' ../setup.py | $(LOCK) - kilted.in dev.in -o oldest.txt

clean:
	rm -rf .venv .venv-newest .venv-oldest build install log demo-output fuzz/found mutants *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv: $(READY)

$(READY): requirements/*.txt requirements/set_up.py setup.py setup.cfg | .python
	@$(PYTHON) requirements/set_up.py .venv $(ROS_DISTRO)
	touch $@

.python:
	@command -v $(PYTHON) > /dev/null || { echo "make: there is no '$(PYTHON)'; set PYTHON to a Python 3.10 to 3.13" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || {
		echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected Python 3.10 to 3.13; set PYTHON=python3.12, say" >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || {
		echo "make: $(PYTHON) cannot make virtual environments; install its venv package (apt install python3-venv)" >&2; exit 1; }
