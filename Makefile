# Needs Python 3.10 to 3.13 and make, nothing else.
#   make demo                      the whole of it on a drawn drive
#   make test                      lint, types and the tests of the first tier, two at once; make lint for the first two
#   make test-all                  lint, types, all tests and their coverage, as CI runs them; test/README.md says more
#   make soak [MINUTES=30]         the node under more load than it can answer
#   make fuzz [SECONDS=60]         coverage-guided fuzzing of everything that is read, each target for so long
#   make mutants                   mutation testing of rules, scores and the specification of fusion
#   make .venv                     the set-up alone; make export-tools adds what `classaug export` needs, make gpu-tools
#                                  what the GPU path is tested with
#   PYTHON=python3.12 make test    another Python
#   ROS_DISTRO=jazzy make test     the ROS 2 wheels to install where Python has no rclpy (kilted or jazzy)

PYTHON ?= python3
ROS_DISTRO ?= kilted

SHELL := /bin/sh
.SHELLFLAGS := -ec
.ONESHELL:
.PHONY: .venv demo test test-all lint clean export-tools fuzz gpu-tools hashes mutants soak

PY := .venv/bin/python
# The stamp names what .venv was made of, so that another Python or ROS makes it anew.
READY := .venv/ready-$(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>&1 | tail -n 1 | tr -c 'A-Za-z0-9.\n' -)-$(ROS_DISTRO)

demo: .venv
	@$(PY) -m classaug_ros.demo.run

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

lint: .venv
	@$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# Half an hour of more frames than can be answered, or MINUTES of them.
MINUTES ?= 30
soak: .venv
	@$(PY) test/soak.py --minutes $(MINUTES)

# Coverage-guided, SECONDS for each target; atheris has wheels for some Pythons only, see requirements/fuzz.txt.
SECONDS ?= 60
fuzz: .venv
	@$(PY) -c 'import atheris' 2> /dev/null || $(PY) -m pip install --quiet --disable-pip-version-check -r requirements/fuzz.txt
	$(PY) fuzz/run.py --seconds $(SECONDS)

# Of each line of the rules, the scores and the specification of fusion: what is changed, and what no test minds.
mutants: .venv
	@$(PY) -c 'import mutmut' 2> /dev/null || $(PY) -m pip install --quiet --disable-pip-version-check -r requirements/mutants.txt
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(PY) -m mutmut run
	$(PY) -m mutmut results

# Their tests are left out of `make test` where they were never run: PyTorch is large.
export-tools gpu-tools: .venv
	@if ! [ .venv/$@ -nt requirements/$(@:-tools=).txt ]; then
		echo "Installing requirements/$(@:-tools=).txt"
		$(PY) -m pip install --quiet --disable-pip-version-check -r requirements/$(@:-tools=).txt
		touch .venv/$@
	fi

# After a change of requirements/*.txt; needs uv, which .venv has not. What is installed then is what was published when it was run.
HASH := UV_CUSTOM_COMPILE_COMMAND="make hashes" uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	--no-annotate --no-emit-index-url --no-emit-find-links
hashes:
	@for ros in kilted jazzy; do
		$(HASH) requirements/runtime.txt requirements/ros-$$ros.txt requirements/dev.txt -o requirements/hashed/$$ros.txt
	done
	$(HASH) --no-deps requirements/no-deps.txt -o requirements/hashed/no-deps.txt

clean:
	rm -rf .venv build install log demo-output fuzz/found mutants *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv: $(READY)

$(READY): requirements/*.txt requirements/hashed/*.txt setup.py setup.cfg
	@command -v $(PYTHON) > /dev/null || { echo "make: there is no '$(PYTHON)'; set PYTHON to a Python 3.10 to 3.13" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || {
		echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected Python 3.10 to 3.13; set PYTHON=python3.12, say" >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || {
		echo "make: $(PYTHON) cannot make virtual environments; install its venv package (apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear --without-pip --system-site-packages .venv
	if $(PY) -c 'import rclpy' 2> /dev/null; then
		pins="-r requirements/runtime.txt -r requirements/ros-system.txt -r requirements/dev.txt"
		echo "Setting up .venv: $$($(PYTHON) --version), with the ROS 2 of this machine"
		$(PYTHON) -m venv --clear --system-site-packages .venv
	else
		pins="--require-hashes -r requirements/hashed/$(ROS_DISTRO).txt"
		[ -f requirements/hashed/$(ROS_DISTRO).txt ] || { echo "make: ROS_DISTRO is '$(ROS_DISTRO)' and its rclpy does not import; expected jazzy or kilted" >&2; exit 1; }
		echo "Setting up .venv: $$($(PYTHON) --version), with ROS 2 $(ROS_DISTRO) from wheels (this Python has no rclpy)"
		$(PYTHON) -m venv --clear .venv
	fi
	echo "Installing $$pins (a minute or two)"
	$(PY) -m pip install --quiet --disable-pip-version-check $$pins
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/hashed/no-deps.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
	echo ".venv is ready"
