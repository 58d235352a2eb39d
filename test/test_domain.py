"""ROS domains of programs that start their own nodes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from classaug_ros.running.domain import own_domain
from classaug_ros.running.nodeprocess import ros_environment

HOLDER = "from classaug_ros.running.domain import own_domain\nwith own_domain() as d: print(d, flush=True); input()"


def test_two_programs_have_a_domain_each_and_one_that_is_killed_gives_its_own_back() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        taken = int(holder.stdout.readline())
        with own_domain() as first, own_domain() as second:
            assert len({taken, first, second}) == 3
        holder.kill()
        holder.wait()
    with own_domain() as again:
        assert again >= taken


def test_a_domain_that_is_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "5")
    with ros_environment():
        assert os.environ["ROS_DOMAIN_ID"] == "5"
    monkeypatch.delenv("ROS_DOMAIN_ID")
    with ros_environment():
        assert 1 <= int(os.environ["ROS_DOMAIN_ID"]) <= 101
    assert "ROS_DOMAIN_ID" not in os.environ
