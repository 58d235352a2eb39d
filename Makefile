# make demo | test | lint | clean; make .venv for the set-up alone, make export-tools to add what `classaug export` needs. Needs Python 3.10 to 3.13 and make, nothing else:
#   PYTHON=python3.12 make test       another Python
#   ROS_DISTRO=jazzy make test        the ROS 2 wheels to install where Python has no rclpy (kilted or jazzy)

PYTHON ?= python3
ROS_DISTRO ?= kilted

SHELL := /bin/sh
.SHELLFLAGS := -ec
.ONESHELL:
.PHONY: .venv demo test lint clean export-tools

PY := .venv/bin/python
# The stamp names what .venv was made of, so that another Python or ROS makes it anew.
READY := .venv/ready-$(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>&1 | tail -n 1 | tr -c 'A-Za-z0-9.\n' -)-$(ROS_DISTRO)

demo: .venv
	@$(PY) -m classaug_ros.demo.run

test: lint
	@PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(PY) -m pytest -p pytest_timeout

lint: .venv
	@$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# Its tests are left out of `make test` where it was never run: PyTorch is large.
export-tools: .venv
	@if ! [ .venv/export-tools -nt requirements/export.txt ]; then
		echo "Installing requirements/export.txt"
		$(PY) -m pip install --quiet --disable-pip-version-check -r requirements/export.txt
		touch .venv/export-tools
	fi

clean:
	rm -rf .venv build install log demo-output *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv: $(READY)

$(READY): requirements/*.txt setup.py setup.cfg
	@command -v $(PYTHON) > /dev/null || { echo "make: there is no '$(PYTHON)'; set PYTHON to a Python 3.10 to 3.13" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || {
		echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected Python 3.10 to 3.13; set PYTHON=python3.12, say" >&2; exit 1; }
	$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || {
		echo "make: $(PYTHON) cannot make virtual environments; install its venv package (apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv --clear --without-pip --system-site-packages .venv
	if $(PY) -c 'import rclpy' 2> /dev/null; then
		ros=requirements/ros-system.txt
		echo "Setting up .venv: $$($(PYTHON) --version), with the ROS 2 of this machine"
		$(PYTHON) -m venv --clear --system-site-packages .venv
	else
		ros=requirements/ros-$(ROS_DISTRO).txt
		[ -f $$ros ] || { echo "make: ROS_DISTRO is '$(ROS_DISTRO)' and its rclpy does not import; expected jazzy or kilted" >&2; exit 1; }
		echo "Setting up .venv: $$($(PYTHON) --version), with ROS 2 $(ROS_DISTRO) from wheels (this Python has no rclpy)"
		$(PYTHON) -m venv --clear .venv
	fi
	echo "Installing requirements/runtime.txt, $$ros and requirements/dev.txt (a minute or two)"
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements/runtime.txt -r $$ros -r requirements/dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/no-deps.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
	echo ".venv is ready"
