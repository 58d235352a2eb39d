"""The node as a program that ends with its standard input: when whoever started it is gone, however that went."""

from __future__ import annotations

import os
import signal
import sys
import threading

from classaug_ros.node.__main__ import main


def _end_with_input() -> None:
    # Not by sys.stdin: a thread that still reads it keeps Python from ending.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, name="the input", daemon=True).start()
    sys.exit(main())
