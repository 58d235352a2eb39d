"""Coverage-guided fuzzing of everything that reads bytes from outside: ``make fuzz SECONDS=60``.

    python fuzz/run.py [--seconds N] [--keep] [TARGET ...]

Every target of ``targets.py`` runs for N seconds in a process of its own, from the inputs kept in ``corpus/TARGET`` on.
A finding is an exception that is none of the package's own, an error of more than a line, more than 5 s, or more than
1 GiB of memory; its input is written to ``found/``. Once it is mended that input belongs in the corpus, which
``make test`` runs through the same functions. ``--keep`` adds the inputs to the corpus that reach code no other does.

Needs atheris (requirements/fuzz.txt), which has wheels for Python 3.11 to 3.13 on x86-64 Linux only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS, FOUND = HERE / "corpus", HERE / "found"
INSTRUMENTED = ("classaug_ros", "yaml", "rosbags", "zipfile", "csv")
SECONDS_PER_INPUT = 5
MEBIBYTES = 1024
LONGEST_INPUT, MOST_KEPT = 4096, 15_000  # bytes, of what is kept of a target


def main() -> int:
    """Fuzz; return 1 when there was a finding, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--keep", action="store_true", help="add what reaches new code to the corpus")
    options = parser.parse_args()
    print(f"{'target':<12} {'runs':>9} {'seconds':>8} {'corpus':>7}  finding", flush=True)
    known = sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())
    findings = [fuzz(target, options.seconds, keep=options.keep) for target in options.targets or known]
    return int(any(findings))


def fuzz(target: str, seconds: int, *, keep: bool) -> bool:
    """Fuzz one target and print its line; return whether there was a finding."""
    kept = CORPUS / target
    (FOUND / target).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="classaug-fuzz-") as folder:
        flags = [f"-max_total_time={seconds}", f"-artifact_prefix={FOUND / target}/", "-print_final_stats=1"]
        output = _child(target, *flags, folder, str(kept))
        if keep:
            _child(target, "-merge=1", f"-max_len={LONGEST_INPUT}", str(kept), folder)
            trim(kept)
    runs = re.search(r"number_of_executed_units: (\d+)", output)
    lasted = re.search(r"Done \d+ runs in (\d+) second", output)
    finding = re.search(r"Test unit written to (\S+)", output)
    what = f"{finding[1]}: {_cause(output)}" if finding else "" if lasted else f"did not run: {output[-300:]!r}"
    kept_now = len(list(kept.iterdir()))
    print(
        f"{target:<12} {runs[1] if runs else '-':>9} {lasted[1] if lasted else '-':>8} {kept_now:>7}  {what}",
        flush=True,
    )
    return bool(what)


def trim(kept: Path) -> None:
    """Remove the largest inputs that libFuzzer found, which it names by their hash, until a folder is small."""
    found = sorted((file for file in kept.iterdir() if len(file.name) == 40), key=lambda file: file.stat().st_size)
    while found and sum(file.stat().st_size for file in found) > MOST_KEPT:
        found.pop().unlink()


def _child(target: str, *flags: str) -> str:
    limits = [f"-timeout={SECONDS_PER_INPUT}", f"-rss_limit_mb={MEBIBYTES}"]
    command = [sys.executable, str(HERE / "target.py"), target, *limits, *flags]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 (our own)
    return done.stdout + done.stderr


def _cause(output: str) -> str:
    """Return the last line of a traceback, or what libFuzzer says itself."""
    lines: Sequence[str] = re.findall(
        r"^(?:\w+[.\w]*(?:Error|Exception|Interrupt)\b.*|.*ERROR: libFuzzer.*)$", output, re.MULTILINE
    )
    return lines[0][:200] if lines else "see its output"


if __name__ == "__main__":
    sys.exit(main())
