"""Engines: a loaded model behind one small interface."""

from __future__ import annotations

from classaug_ros.engines.checked import CheckedEngine
from classaug_ros.models import Model

__all__ = ["CheckedEngine", "load_engine"]


def load_engine(model: Model, threads: int) -> CheckedEngine:
    """Load a model for running on the CPU with ONNX Runtime.

    Args:
        model: the model file and its card.
        threads: CPU threads it may use, at least 1.

    Raises:
        EngineError: the file is no model, or is not what its card says.
    """
    from classaug_ros.engines.onnxrt import OnnxRuntimeEngine

    return CheckedEngine(OnnxRuntimeEngine(model, threads), model)
