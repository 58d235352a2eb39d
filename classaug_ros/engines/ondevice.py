"""A model on a GPU for those who have arrays: learning and evaluation."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from classaug_ros.engines.interface import DeviceEngine
from classaug_ros.errors import EngineError, first_line
from classaug_ros.models.card import Model


class OnDevice:
    """A model on a device behind the interface of arrays; see ``Engine``. It has a stream of its own."""

    def __init__(self, engine: DeviceEngine, model: Model, device: torch.device) -> None:
        """Take a model on a device over; EngineError where the device refuses."""
        card = model.card.input
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._path, self._engine, self._cancelled = model.path, engine, False
        self._image = torch.zeros((1, 3, card.height, card.width), dtype=torch.float32, device=device)
        self._context = engine.bind(self._image)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Run the model; see ``Engine.run``."""
        if self._cancelled:
            raise EngineError(f"{self._path}: it was told to end")
        try:
            with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
                self._image.copy_(torch.from_numpy(image))
                output = self._context.enqueue(self._stream)
                scores = output.float() if output.is_floating_point() else output
                array: NDArray[Any] = scores.cpu().numpy()
        except RuntimeError as error:  # CUDA's
            raise EngineError(f"{self._path}: the GPU failed: {first_line(error)}") from error
        return array

    def cancel(self) -> None:
        """Fail every later run; what a GPU is at goes on."""
        self._cancelled = True

    def close(self) -> None:
        """Release the model."""
        vars(self).pop("_context", None)
        self._engine.close()
