"""The report as data: report.json, from which the other forms are made."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import cv2
import numpy as np

from classaug_ros import __version__
from classaug_ros.data.examples import Source
from classaug_ros.evaluation.calibration import Calibration
from classaug_ros.evaluation.evaluate import Evaluation, FrameScore
from classaug_ros.evaluation.methods import rules_fingerprint
from classaug_ros.evaluation.report.class_changes import ClassChanges
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import RuleSet

FORMAT = 2


def build_report(
    evaluation: Evaluation,
    pipeline: Pipeline,
    source: Source,
    *,
    class_changes: ClassChanges | None = None,
    live: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the report as JSON-able data; every score is in per cent, null where it is not defined.

    Args:
        evaluation: the scores.
        pipeline: all models.
        source: what was evaluated.
        class_changes: what each main class became; it watched the evaluation.
        live: of an evaluation of a running node, any of ``latency_ms`` (list), ``sent``, ``answered``, ``dropped``
            and other fates (numbers of frames), ``cpu_percent`` and ``memory_mib`` (lists of [seconds since the
            start, value]).
    """
    methods = evaluation.methods
    subs = dict(zip(_roles(len(pipeline.subs)), pipeline.subs, strict=True))
    titles = methods.titles([model.card.name for model in pipeline.subs])
    report = {
        "format": FORMAT,
        "in_use": methods.in_use,
        "methods": {
            method: {
                "title": titles[method],
                "miou": _per_cent(evaluation.miou(method)),
                "iou": _per_cent(evaluation.iou(method)),
                "contours": {str(px): _per_cent(miou) for px, miou in evaluation.contour_miou(method).items()},
                "confusion": matrix.counts.tolist(),
            }
            for method, matrix in evaluation.matrices.items()
        },
        "classes": dict(zip(evaluation.scoring.names, evaluation.scoring.kinds, strict=True)),
        **_per_cent({"unlabelled": evaluation.unlabelled}),
        "calibration": _calibration(evaluation.calibration),
        "output": _output(methods.rules),
        "frames": [_frame(frame) for frame in evaluation.frames],
        "provenance": {
            "dataset": source.name,
            "truth": None if source.truth is None else source.truth.name,
            "images": evaluation.images,
            "models": {
                role: {"name": model.card.name, "fingerprint": model.fingerprint}
                for role, model in {"main": pipeline.main, **subs}.items()
            },
            "rules": [
                {"kind": each.kind, "fingerprint": rules_fingerprint(each), **asdict(each.provenance)}
                for each in methods.rules.rules
            ],
            "decision": asdict(methods.decision),
            "package_version": __version__,
            "versions": {"Python": platform.python_version(), "NumPy": np.__version__, "OpenCV": cv2.__version__},
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    }
    if class_changes is not None:
        report["turned"] = class_changes.counts.tolist()
    if live is not None:
        report["live"] = dict(live)
    return report


def _roles(subs: int) -> list[str]:
    return ["sub" if number == 1 else f"sub{number}" for number in range(1, subs + 1)]


def _calibration(calibration: Calibration) -> dict[str, Any]:
    """Return the error and the bins, without bounds: they are of equal width."""
    bins = [
        {"pixels": one.pixels, **_per_cent({"confidence": one.confidence, "accuracy": one.accuracy})}
        for one in calibration.bins()
    ]
    return {**_per_cent({"error": calibration.error()}), "bins": bins}


def _output(rules: RuleSet) -> list[dict[str, Any]]:
    rows = zip(rules.output.names, rules.output.colors, rules.sources, strict=True)
    return [{"name": name, "color": list(color), "source": source} for name, color, source in rows]


def _frame(frame: FrameScore) -> dict[str, Any]:
    return {
        "name": frame.name,
        "camera": frame.camera,
        "stamp": frame.stamp,
        "apart": frame.apart,
        "seconds": round(frame.seconds, 6),
        "miou": _per_cent(frame.miou),
        "shares": [round(share, 6) for share in frame.shares],
    }


def _per_cent(ratios: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(ratio) else 100 * ratio for name, ratio in ratios.items()}
