"""A bag of what the node would have published for a recording, written while it is evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from classaug_ros import fusion
from classaug_ros.data.bags import IMAGE, STRING, BagWriter, image_message, text_message
from classaug_ros.data.examples import Example
from classaug_ros.evaluation.evaluate import Prediction
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import RuleSet
from classaug_ros.rules.decision import Decision

NODE = "/classaug_node"
ALPHA = 0.5  # of the overlay, as the node's parameter overlay_alpha is by default


class LabelBag:
    """A watcher that writes label, overlay and label_info topics; use as a context manager.

    They are named as the node's are; every message has the header of its image and was recorded when that was.
    """

    def __init__(
        self,
        output: Path,
        pipeline: Pipeline,
        rules: RuleSet,
        decision: Decision = Decision(),  # noqa: B008 (frozen)
    ) -> None:
        """Prepare a bag (MCAP).

        Args:
            output: the bag's folder, which must not exist yet.
            pipeline: all models.
            rules: the rules.
            decision: how they decide.

        Raises:
            ConfigError: ``output`` exists.
        """
        self._pipeline, self._rules, self._decision = pipeline, rules, decision
        self._palette = rules.output.palette()
        self._encoding = "mono8" if rules.output.dtype.itemsize == 1 else "16UC1"
        self._cameras: set[str] = set()
        self._bag = BagWriter(output)

    def __enter__(self) -> LabelBag:
        self._bag.__enter__()
        self._bag.add_topic(f"{NODE}/label_info", STRING, latched=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bag.__exit__(kind, error, traceback)

    def __call__(self, example: Example, prediction: Prediction) -> None:
        """Write the label and overlay of a recording's frame, at the size of the image."""
        camera, _, _ = example.name.rpartition("/")
        if not self._cameras:
            self._bag.write(f"{NODE}/label_info", example.recorded, text_message(json.dumps(self._rules.label_info())))
        if camera not in self._cameras:
            self._cameras.add(camera)
            for output in ("label", "overlay"):
                self._bag.add_topic(f"{NODE}/{camera}/{output}", IMAGE)
        label, frame = prediction.output, example.frame
        if label.shape != frame.size:  # the ground truth is of another size
            label = self._pipeline.augment(frame, self._rules, self._decision).label
        _, overlay = fusion.paint(label, self._palette, frame, ALPHA)
        for output, pixels, encoding in (("label", label, self._encoding), ("overlay", overlay, "rgb8")):
            if pixels is not None:
                data = image_message(example.stamp, example.frame_id, pixels, encoding)
                self._bag.write(f"{NODE}/{camera}/{output}", example.recorded, data)
