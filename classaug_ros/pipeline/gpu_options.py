"""How frames are run on a GPU. PyTorch itself is not needed here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from classaug_ros.models.engine_manifest import Precision


@dataclass(frozen=True)
class GpuOptions:
    """How frames are run on a GPU.

    Attributes:
        precision: of engines that are built from ONNX models.
        concurrent: each model has a stream of its own, instead of one after the other on one.
        graph: a frame's work is captured as a CUDA graph once, and launched as that.
        frames_in_flight: 2: a frame is uploaded while the one before is computed; 1: when that is done.
        batch: frames of as many cameras, of one size, run at once where they are waiting.
        timeout: seconds that a frame may take on the GPU.
    """

    precision: Precision = "fp16"
    concurrent: bool = True
    graph: bool = True
    frames_in_flight: int = 2
    batch: int = 1
    timeout: float = math.inf
