"""Predictions kept on disk while an evaluation runs, so that one that was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from classaug_ros.files import write_whole
from classaug_ros.images import Frame
from classaug_ros.labels import LabelMap
from classaug_ros.pipeline import Pipeline

_logger = logging.getLogger(__name__)


def discard(folder: Path) -> None:
    """Remove what was kept, once nobody needs it any more."""
    shutil.rmtree(folder, ignore_errors=True)


class KeptPredictions:
    """A pipeline's predictions by image, in a folder that lasts until ``discard``.

    An evaluation that starts again runs through all images, but models only where they had not got to: everything that
    follows from the predictions is done anew, so that its result is that of one run. What is kept of an image is used
    only for the very same pixels, models and size.
    """

    def __init__(self, pipeline: Pipeline, folder: Path | None) -> None:
        """Keep predictions of ``pipeline`` in ``folder``, made with the first of them; without one keep none."""
        self._folder = folder
        self._pipeline = pipeline
        self._models = f"{pipeline.main.fingerprint} {pipeline.sub.fingerprint}".encode()
        self._images = 0
        if folder is not None and (before := len(list(folder.glob("*.npz")))):
            _logger.info("%s: going on after %d images done before", folder, before)

    def predict(self, frame: Frame, size: tuple[int, int]) -> tuple[LabelMap, LabelMap, float]:
        """Return main and sub labels, (H, W) = ``size``, of the next image, and the seconds that the models took.

        Raises:
            EngineError: a model failed.
            ConfigError: they cannot be written.
        """
        if self._folder is None:
            return self._run(frame, size)
        path = self._folder / f"{self._images:07}.npz"
        self._images += 1
        digest = self._digest(frame)
        kept = _read(path, digest, size)
        if kept is not None:
            return kept
        main, sub, seconds = self._run(frame, size)
        data = io.BytesIO()
        png = [cv2.imencode(".png", labels)[1] for labels in (main, sub)]
        np.savez(data, digest=digest, seconds=seconds, main=png[0], sub=png[1])
        write_whole(path, data.getvalue())
        return main, sub, seconds

    def _run(self, frame: Frame, size: tuple[int, int]) -> tuple[LabelMap, LabelMap, float]:
        start = time.perf_counter()
        main, sub = self._pipeline.predict(frame, size)
        return main, sub, time.perf_counter() - start

    def _digest(self, frame: Frame) -> str:
        content = hashlib.blake2b(self._models + f"{frame.order} {frame.size}".encode(), digest_size=16)
        content.update(np.ascontiguousarray(frame.pixels).data)
        return content.hexdigest()


def _read(path: Path, digest: str, size: tuple[int, int]) -> tuple[LabelMap, LabelMap, float] | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            if str(kept["digest"]) != digest:
                return None
            main, sub = _labels(kept["main"]), _labels(kept["sub"])
            seconds = float(kept["seconds"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, cv2.error):  # none, broken, another version's
        return None
    return (main, sub, seconds) if main.shape == sub.shape == size else None


def _labels(png: NDArray[np.uint8]) -> LabelMap:
    labels: Any = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise ValueError("no PNG")
    return np.asarray(labels)
