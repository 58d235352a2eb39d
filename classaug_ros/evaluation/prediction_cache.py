"""Predictions kept on disk while an evaluation runs, so that one that was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.methods import Methods, Predicted
from classaug_ros.imaging.images import Frame
from classaug_ros.io.archive import Archive, BrokenArchiveError
from classaug_ros.io.files import read_whole, write_whole
from classaug_ros.pipeline.cpu import Pipeline

# What reading gives where nothing was kept, or it is broken or another version's.
_UNUSABLE = (ConfigError, BrokenArchiveError, KeyError, ValueError, TypeError, cv2.error)
_logger = logging.getLogger(__name__)


def discard(folder: Path) -> None:
    """Remove what was kept, once nobody needs it any more."""
    shutil.rmtree(folder, ignore_errors=True)


class PredictionCache:
    """What all methods say by image, in a folder that lasts until ``discard``.

    An evaluation that starts again runs through all images, but models and rules only where they had not got to:
    everything that follows from the predictions is done anew, so that its result is that of one run. What is kept of an
    image is used only for the very same pixels, models, rules, decision and size.
    """

    def __init__(self, pipeline: Pipeline, methods: Methods, folder: Path | None) -> None:
        """Keep what ``methods`` say in ``folder``, made with the first image; without a folder keep nothing."""
        self._folder = folder
        self._pipeline = pipeline
        self._methods = methods
        self._made_by = " ".join([*(model.fingerprint for model in pipeline.models), methods.fingerprint])
        self._images = 0
        if folder is not None and (before := len(list(folder.glob("*.npz")))):
            _logger.info("%s: going on after %d images done before", folder, before)

    def predict(self, frame: Frame, size: tuple[int, int]) -> Predicted:
        """Return what the methods say of the next image, at (H, W) = ``size``.

        Raises:
            EngineError: a model failed.
            ConfigError: it cannot be written.
        """
        if self._folder is None:
            return self._methods.predict(self._pipeline, frame, size)
        path = self._folder / f"{self._images:07}.npz"
        self._images += 1
        digest = self._digest(frame, size)
        kept = _read(path, digest, self._methods.names)
        if kept is not None:
            return kept
        predicted = self._methods.predict(self._pipeline, frame, size)
        data = io.BytesIO()
        maps: dict[str, Any] = {name: _png(labels) for name, labels in predicted.labels.items()}
        np.savez(data, digest=digest, seconds=predicted.seconds, confidence=_png(predicted.confidence), **maps)
        write_whole(path, data.getvalue())
        return predicted

    def _digest(self, frame: Frame, size: tuple[int, int]) -> str:
        given = f"{self._made_by} {frame.order} {frame.size} {size}".encode()
        content = hashlib.blake2b(given, digest_size=16)
        content.update(np.ascontiguousarray(frame.pixels).data)
        return content.hexdigest()


def _read(path: Path, digest: str, methods: tuple[str, ...]) -> Predicted | None:
    try:
        kept = Archive(read_whole(path))
        if str(kept["digest"]) != digest:
            return None
        labels = {method: _decoded(kept[method]) for method in methods}
        return Predicted(labels, _decoded(kept["confidence"]), float(kept["seconds"]))
    except _UNUSABLE:
        return None


def _png(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(cv2.imencode(".png", values)[1], np.uint8)


def _decoded(png: NDArray[np.uint8]) -> NDArray[Any]:
    values: Any = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("no PNG")
    return np.asarray(values)
