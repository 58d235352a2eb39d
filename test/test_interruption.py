"""Ctrl-C between two steps, and a second one within a step that does not end."""

from __future__ import annotations

import signal

import pytest

from classaug_ros.io.interruption import interruption


def test_the_first_ctrl_c_is_an_event_and_the_second_is_as_usual() -> None:
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where this runs in the background
    with interruption() as interrupted:
        assert not interrupted.is_set()
        signal.raise_signal(signal.SIGINT)
        assert interrupted.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.signal(signal.SIGINT, earlier) is signal.default_int_handler
