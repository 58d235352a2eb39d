"""Runs all that a GPU has to show, each step in a process of its own, and prints a short table; see gpu.sh."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from verdicts import rows, to_text

NEEDED = {"numpy": "numpy", "numba": "numba", "cv2": "opencv-python-headless", "yaml": "PyYAML", "tqdm": "tqdm"}
NEEDED |= {"torch": "torch", "triton": "triton"}

SECONDS = {
    "machine": 60,
    "models": 90,
    "equal": 130,
    "bench": 170,
    "kernels": 130,
    "memory": 110,
    "errors": 60,
    "tensorrt": 60,
}
"""What each step may take at most, in the order they are run."""

BUDGET = 470.0
"""Seconds for all of them: a step that takes long takes it from those after it, never from the table."""

NOTHING = 2  # exit status where nothing can be run


def main() -> int:
    """Run the steps and tell what came of them; return the exit status."""
    options = _options()
    if missing := [package for module, package in NEEDED.items() if find_spec(module) is None]:
        print(f"gpu.sh: missing here: {', '.join(missing)}; see the top of bench/gpu.sh", file=sys.stderr)
        return NOTHING
    if options.step:
        return _step(options)
    output = Path(os.environ.get("OUT") or "gpu-bench")
    output.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="classaug-bench-") as work:
        for name in options.only:
            left = BUDGET - (time.monotonic() - begun)
            results[name] = _run(name, options, Path(work), min(SECONDS[name], left) if not options.small else None)
            if name == "machine" and "refused" in results[name]:
                print(f"gpu.sh: {results[name]['refused']}", file=sys.stderr)
                return NOTHING
    seconds = time.monotonic() - begun
    verdicts = rows(results, timed=not options.small)
    whole = {"seconds": seconds, "device": options.device, "small": options.small, "steps": results}
    (output / "gpu.json").write_text(json.dumps({**whole, "table": verdicts}, indent=1), encoding="utf-8")
    print(f"\n{to_text(verdicts)}\n\n{seconds:.0f} s; everything is in {output / 'gpu.json'}")
    return int(any(row["verdict"] == "FAIL" for row in verdicts))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("gpu.sh", description="Shows on a GPU what only a GPU can show.")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cuda", help="cuda (default), or cpu: Triton's interpreter"
    )
    parser.add_argument("--small", action="store_true", help="tiny models and frames, a few rounds")
    parser.add_argument("--only", nargs="+", choices=SECONDS, metavar="STEP", help=f"some of {', '.join(SECONDS)}")
    parser.add_argument("--step", choices=SECONDS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cpu" and not options.small:
        parser.error("--device cpu runs kernels in Triton's interpreter, which takes hours at full size: add --small")
    wanted = {*(options.only or SECONDS), "machine"}
    if wanted & {"equal", "bench", "memory", "errors"}:
        wanted.add("models")
    options.only = [name for name in SECONDS if name in wanted]
    return options


def _run(name: str, options: argparse.Namespace, work: Path, seconds: float | None) -> dict[str, Any]:
    """Run one step in a process of its own, which may take so long; return its result, or why there is none."""
    if seconds is not None and seconds < 5:
        return {"not run": "no time was left"}
    if name != "machine":  # which may refuse, in one line
        print(f"== {name}", flush=True)
    command = [sys.executable, str(Path(__file__).resolve()), "--step", name, "--work", str(work)]
    command += ["--device", options.device, *(["--small"] if options.small else [])]
    environment = {**os.environ, "XDG_CACHE_HOME": str(work / "cache"), "PYTHONUNBUFFERED": "1"}
    environment.pop("TRITON_INTERPRET", None)
    if options.device == "cpu":
        environment["TRITON_INTERPRET"] = "1"
    begun = time.monotonic()
    result: dict[str, Any]
    try:
        status = subprocess.run(command, env=environment, check=False, timeout=seconds).returncode  # noqa: S603
    except subprocess.TimeoutExpired:
        result = {"failed": f"it took more than {seconds:.0f} s"}
    else:
        written = work / f"{name}.json"
        result = json.loads(written.read_text()) if written.exists() else {"failed": f"it ended with status {status}"}
    return {**result, "seconds": time.monotonic() - begun}


def _step(options: argparse.Namespace) -> int:
    """Run one step in this process, and write what comes of it."""
    from steps import STEPS, Setting

    from classaug_ros.errors import ClassaugError

    status = 0
    try:
        result = STEPS[options.step](Setting(options.device, options.small, options.work))
    except ClassaugError as error:
        kind = "refused" if options.step == "machine" else "failed"
        result, status = {kind: str(error)}, 1
    except Exception as error:
        _write(options.work, options.step, {"failed": f"{type(error).__name__}: {error}".partition("\n")[0]})
        raise
    _write(options.work, options.step, result)
    return status


def _write(work: Path, name: str, result: dict[str, Any]) -> None:
    (work / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
