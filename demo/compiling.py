"""Compiles what the demo's processes will need, beside them: ``python -m demo.compiling``.

It learns from one scene and prepares for frames as the node does, so that Numba keeps the machine code for all of them.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from classaug_ros import fusion
from classaug_ros.data.dataset import load_dataset
from classaug_ros.learning.learn import count, derive_rules
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.pipeline.frame_path import CpuPath
from classaug_ros.rules import RuleSet
from classaug_ros.rules.task import Task
from demo.datasets import write_dataset

HERE = Path(__file__).resolve().parent
SEED = 5000


def main() -> None:
    """Learn from a scene, and warm up the way of a frame."""
    fusion.warm_up()
    task = Task.load(HERE / "task.yaml")
    with (
        TemporaryDirectory() as folder,
        Pipeline(load_model(HERE / "models/main"), load_model(HERE / "models/sub")) as pipeline,
    ):
        scene = load_dataset(write_dataset(Path(folder) / "scene", [SEED], name="scene"))
        rules = derive_rules(count(pipeline, [scene], task, Path(folder) / "counts.npz"), task)
        CpuPath(pipeline).warm_up(RuleSet([rules]))


if __name__ == "__main__":
    main()
