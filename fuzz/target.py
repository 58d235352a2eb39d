"""One target as a process: ``python fuzz/target.py NAME [libFuzzer's options] [CORPUS ...]``; ``run.py`` starts it."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
from run import INSTRUMENTED

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
name = sys.argv.pop(1)
with atheris.instrument_imports(include=list(INSTRUMENTED), enable_loader_override=False):
    from targets import TARGETS, try_out

again = f"{sys.executable} {__file__} {name}"  # how libFuzzer starts itself, to merge
atheris.Setup([again, *sys.argv[1:]], lambda data: try_out(TARGETS[name], data))
atheris.Fuzz()
