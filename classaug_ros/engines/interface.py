"""What every engine is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


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
