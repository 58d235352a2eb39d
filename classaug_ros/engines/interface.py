"""What every engine is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Port:
    """An input or output as a model file declares it.

    Attributes:
        name: its name.
        dtype: NumPy's name of its type, such as ``float32``.
        shape: its sizes, None for one that is free; None altogether where not even their number is declared.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Tell whether arrays of ``shape`` fit."""
        if self.shape is None:
            return True
        return len(self.shape) == len(shape) and all(
            have is None or have == want for have, want in zip(self.shape, shape, strict=True)
        )


class Engine(Protocol):
    """A model that runs. One call at a time; several engines may run at once in threads of their own.

    Attributes:
        inputs, outputs: what the model file itself declares.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        """Run the model.

        Args:
            image: 1 x 3 x height x width float32 of the card's input.

        Returns:
            1 x classes x height x width scores, or 1 x height x width labels, of the card's output.

        Raises:
            EngineError: the model failed, or was cancelled.
        """

    def cancel(self) -> None:
        """Ask a run in progress in another thread to end, and fail every later one. Not every model heeds it soon."""

    def close(self) -> None:
        """Release the model; calling it twice does no harm."""


class DeviceEngine(Protocol):
    """A model on a CUDA device, or on torch's CPU; several frames may be with it at once, each in a context of its own.

    Attributes:
        description: what runs it, such as ``tensorrt 10.13.3.9``.
        inputs, outputs: what the model file itself declares; a free batch is None.
    """

    description: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def bind(self, image: torch.Tensor) -> Context:
        """Prepare for running on one tensor, whose contents may change from run to run.

        Args:
            image: N x 3 x height x width float32 of the card's input, contiguous, on the engine's device. It stays
                where it is as long as the context is in use.

        Raises:
            EngineError: the tensor does not fit, or the device's memory does not suffice.
        """

    def close(self) -> None:
        """Release the model, as soon as no context needs it; calling it twice does no harm."""


class Context(Protocol):
    """What one frame, or a batch of frames at a time, needs to run through a model. For one thread at a time."""

    def enqueue(self, stream: torch.cuda.Stream | None) -> torch.Tensor:
        """Run the model on the tensor it was bound to.

        What was enqueued once may then be captured in a CUDA graph. The context is to be kept until all that was
        enqueued, and all graphs that hold it, are through.

        Args:
            stream: where to; None for torch's current one. On the CPU the run is over when this returns.

        Returns:
            The card's output, contiguous, valid on the stream until the next run: N x classes x height x width
            scores, float32 or float16, or N x height x width labels of an integer type. Finite numbers, and labels
            within the classes, it is for its user to check.

        Raises:
            EngineError: the model cannot run.
            OutputError: what it gives has another shape or type than its card says.
        """
