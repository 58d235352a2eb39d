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
from classaug_ros.evaluation.evaluate import Evaluation, FrameScore
from classaug_ros.pipeline import Pipeline
from classaug_ros.report.turned import Turned
from classaug_ros.rules import Rules
from classaug_ros.yamlfile import fingerprint

FORMAT = 1


def build_report(
    evaluation: Evaluation,
    pipeline: Pipeline,
    source: Source,
    rules: Rules,
    *,
    turned: Turned | None = None,
    live: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the report as JSON-able data; every IoU is in per cent, null where it is not defined.

    Args:
        evaluation: the scores.
        pipeline: both models.
        source: what was evaluated.
        rules: the rules.
        turned: what each main class became; it watched the evaluation.
        live: of an evaluation of a running node, any of ``latency_ms`` (list), ``sent``, ``answered``, ``dropped``
            and other fates (numbers of frames), ``cpu_percent`` and ``memory_mib`` (lists of [seconds since the
            start, value]).
    """
    report = {
        "format": FORMAT,
        "methods": {
            method: {
                "miou": _per_cent(evaluation.miou(method)),
                "iou": _per_cent(evaluation.iou(method)),
                "confusion": matrix.counts.tolist(),
            }
            for method, matrix in evaluation.matrices.items()
        },
        "classes": dict(zip(evaluation.scoring.names, evaluation.scoring.kinds, strict=True)),
        "output": _output(rules),
        "frames": [_frame(frame) for frame in evaluation.frames],
        "provenance": {
            "dataset": source.name,
            "truth": None if source.truth is None else source.truth.name,
            "images": evaluation.images,
            "models": {
                role: {"name": model.card.name, "fingerprint": model.fingerprint}
                for role, model in (("main", pipeline.main), ("sub", pipeline.sub))
            },
            "rules": {"fingerprint": fingerprint(rules.to_parameters()["table"]), **asdict(rules.provenance)},
            "package_version": __version__,
            "versions": {"Python": platform.python_version(), "NumPy": np.__version__, "OpenCV": cv2.__version__},
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    }
    if turned is not None:
        report["turned"] = turned.counts.tolist()
    if live is not None:
        report["live"] = dict(live)
    return report


def _output(rules: Rules) -> list[dict[str, Any]]:
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
