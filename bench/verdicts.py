"""The short table: what was to be shown, what was found, and whether that will do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
Row = dict[str, str]

KERNELS_MS = 0.10
TORCH_RATIO = 20.0
LATENCY_RATIO = 1.15


def rows(results: Results, *, timed: bool) -> list[Row]:
    """Return what, found, bound and verdict (PASS, FAIL, reported, not run) for each figure of the steps there are.

    Args:
        results: what the steps found.
        timed: whether times mean anything; where not, they are not judged.
    """
    found: list[Row] = []
    for name, of in _FIGURES.items():
        if name not in results:
            continue
        result = results[name]
        if reason := result.get("not run"):
            found.append(_row(name, reason, "", "not run"))
        elif reason := result.get("failed"):
            found.append(_row(name, reason, "", "FAIL"))
        else:
            judged = list(of(result))
            found += judged if timed or name != "bench" else [{**row, "verdict": "not judged"} for row in judged]
    return found


def to_text(table: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    lines = ["| | found | bound | |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row.values())} |" for row in table)])


def _row(what: str, found: str, bound: str, verdict: str) -> Row:
    return {"what": what, "found": found, "bound": bound, "verdict": verdict}


def _judged(what: str, value: float, bound: str, good: bool, unit: str = "") -> Row:
    return _row(what, f"{value:.4g}{unit}", bound, "PASS" if good else "FAIL")


def _none(what: str, count: int) -> Row:
    return _judged(what, count, "0", count == 0)


def _told(what: str, found: str) -> Row:
    return _row(what, found, "", "reported")


def _machine(result: Mapping[str, Any]) -> Iterator[Row]:
    yield _told("machine", result["gpu"])


def _models(result: Mapping[str, Any]) -> Iterator[Row]:
    yield _told("models", result["models"])


def _kernels(result: Mapping[str, Any]) -> Iterator[Row]:
    cases = result["cases"]
    wrong = [case["case"] for case in cases if not case["equal"]]
    yield _none(f"kernels against the reference at awkward sizes: cases of {len(cases)} that differ", len(wrong))
    if left := result["left out"]:
        yield _row("further cases", f"{left}: no time was left", "", "not run")


def _equal(result: Mapping[str, Any]) -> Iterator[Row]:
    yield _none("preprocessing of a whole frame: values that differ from the reference", result["inputs that differ"])
    for name, count in result["on the same outputs"].items():
        yield _none(f"fusion as on the CPU, same outputs: {name}", count)
    yield _none("frames in flight: results that are not their own frame's", result["mixed up"])
    for name, share in result["whole way"].items():
        yield _told(f"whole way, CPU against GPU: {name}", f"{share:.3%}")


def _bench(result: Mapping[str, Any]) -> Iterator[Row]:
    figures = result["figures"]
    kernels = figures["both kernels, ms"]
    yield _judged("both kernels together", kernels, f"at most {KERNELS_MS:.2f} ms", kernels <= KERNELS_MS, " ms")
    if ratio := figures.get("PyTorch / kernels, launched one by one"):
        what = "PyTorch's operations / kernels"
        yield _judged(what, ratio, f"at least {TORCH_RATIO:g}", ratio >= TORCH_RATIO)
    for way in ("upload", "download"):
        time, share = result["stages"][way]["p50"], figures[f"{way}: share of the measured bandwidth"]
        yield _told(way, f"{time:.3f} ms, {share:.0%} of {result['copies'][way] / 1e9:.1f} GB/s")
    if latency := figures.get("frame / engines at once in a graph"):
        bound = f"at most {LATENCY_RATIO}"
        yield _judged("frame, host to host / engines at once", latency, bound, latency <= LATENCY_RATIO)
        pinned = figures["frame from pinned memory / engines at once in a graph"]
        yield _told("the same without copying to pinned memory", f"{pinned:.3f}")
    together = figures["engines one after the other / at once"]
    yield _told("engines one after the other / at once", f"{together:.3f}")
    for each in result["frames"]:
        text = f"{each['latency_ms']['p50']:.3f} ms, {each['frames_per_second']:.1f} frames/s"
        yield _told(f"frames: {each['how']}", text)
    for how, error in result["failed"].items():
        yield _row(f"frames: {how}", error, "", "FAIL")


def _memory(result: Mapping[str, Any]) -> Iterator[Row]:
    what = f"memory over {result['frames']} frames"
    if left := result["wanted"] - result["frames"]:
        yield _row("memory over further frames", f"{left}: no time was left", "", "not run")
    for name, limit in (("allocated", 0), ("reserved", 0), ("device", 2**22)):
        if name in result:
            grown = result[name][1] - result[name][0]
            bound = "no more bytes" if limit == 0 else f"at most {limit // 2**20} MiB more"
            yield _judged(f"{what}: {name}", grown / 2**20, bound, grown <= limit, " MiB")
    before, after = (value / 2**20 for value in result["process"])
    yield _told(f"{what}: of the process on the host", f"{before:.0f} to {after:.0f} MiB")


def _tensorrt(result: Mapping[str, Any]) -> Iterator[Row]:
    for name, text in result["engines"].items():
        yield _told(f"TensorRT: {name}", text)


def _errors(result: Mapping[str, Any]) -> Iterator[Row]:
    for each in result["errors"]:
        yield _row(f"error: {each['what']}", each["said"], "one line of ours", "PASS" if each["clear"] else "FAIL")


_FIGURES = {
    "machine": _machine,
    "models": _models,
    "kernels": _kernels,
    "equal": _equal,
    "bench": _bench,
    "memory": _memory,
    "tensorrt": _tensorrt,
    "errors": _errors,
}
