"""The inputs that fuzzing kept give a result or one of the package's errors, in a line, quickly."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "fuzz"
sys.path.insert(0, str(FUZZ))

from targets import TARGETS, try_out  # noqa: E402 (in the folder named above)

CORPUS = FUZZ / "corpus"
SECONDS = 5  # of a core


def test_every_target_has_a_corpus_and_all_of_it_is_small() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert sum(file.stat().st_size for file in CORPUS.rglob("*")) < 300_000


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_was_kept_is_read_or_refused(name: str) -> None:
    for file in sorted((CORPUS / name).iterdir()):
        start = time.thread_time()
        try:
            try_out(TARGETS[name], file.read_bytes())
        except Exception as error:
            raise AssertionError(f"{file}: {error!r}") from error
        assert time.thread_time() - start < SECONDS, file
