"""Tiny real ONNX models, with cards and classes, whose scores are a known linear function of the image."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnx
import yaml
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from classaug_ros.models.card import Model, load_model
from classaug_ros.rules import Evidence, Kind, Provenance, Rules, derive, groups_of
from classaug_ros.rules.task import Task

OPSET = 17
TURNS = 2**24  # of a loop without an end in sight
WINDOW = 300  # pixels along each side that an average is of, at as many places
SOON = 5.0  # s: less than any trap takes, which a core works on all the while; what is done by then did not wait for it
IR_VERSION = 8  # of that opset: what the onnx package writes by default may be too new for ONNX Runtime

Trap = Literal[
    "nan on black",
    "infinite on black",
    "fails on white",
    "loops on white",
    "loops on black",
    "sticks on white",
]


def write_classes(path: Path, names: Sequence[str]) -> Path:
    """Write a classes.csv with distinct colours."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "name", "r", "g", "b"))
        for number, name in enumerate(names):
            rows.writerow((number, name, number % 256, number // 256, 7 * number % 256))
    return path


@dataclass(frozen=True)
class Weights:
    """scores = matrix @ ((image - mean) * scale) + bias, per pixel. Small integers: exact in float32."""

    matrix: NDArray[np.float32]  # classes x 3
    bias: NDArray[np.float32]  # classes

    @classmethod
    def random(cls, classes: int, seed: int) -> Weights:
        random = np.random.default_rng(seed)
        matrix = random.integers(-9, 10, (classes, 3)).astype(np.float32)
        # With this bias every class is about as good as the others in the middle of the colours.
        return cls(matrix, np.rint(-127.5 * matrix.sum(axis=1)).astype(np.float32))

    def scores(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the classes x H x W scores of an H x W x 3 image, with mean 0 and scale 1."""
        scores: NDArray[np.float32] = np.einsum("kc,yxc->kyx", self.matrix, rgb.astype(np.float32))
        return scores + self.bias[:, None, None]


def write_model(
    folder: Path,
    classes: Sequence[str],
    size: tuple[int, int],
    *,
    seed: int = 0,
    weights: Weights | None = None,
    stride: int = 1,
    kind: str = "logits",
    upsample: str = "half_pixel",
    trap: Trap | None = None,
    lasting: int = 1,
    dynamic: bool = False,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model folder: model.onnx, model.yaml and classes.csv.

    Args:
        folder: made if need be.
        classes: the class names.
        size: (height, width) of the input.
        seed: of the weights, unless ``weights`` are given.
        weights: the linear function.
        stride: the output has a score for each so many pixels, taken at its first.
        kind: logits, probabilities or labels.
        upsample: the card's convention.
        trap: an image that makes the model fail.
        lasting: so many times longer one takes that loops or sticks.
        dynamic: whether batch, height and width are free dimensions in the model file.
        card: entries of the card to change, ``{"output.name": "x"}``; None removes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_classes(folder / "classes.csv", classes)
    used = weights or Weights.random(len(classes), seed)
    onnx.save(_graph(used, size, stride, kind, trap, lasting, dynamic), folder / "model.onnx")
    height, width = (-(-side // stride) for side in size)
    entries: dict[str, Any] = {
        "name": folder.name,
        "classes": "classes.csv",
        "input": {"name": "image", "height": size[0], "width": size[1], "mean": [0, 0, 0], "scale": [1, 1, 1]},
        "output": {"name": "result", "kind": kind, "height": height, "width": width, "upsample": upsample},
    }
    for key, value in (card or {}).items():
        *sections, last = key.split(".")
        section = entries
        for part in sections:
            section = section[part]
        section[last] = value
        if value is None:
            del section[last]
    (folder / "model.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    return folder


def tiny_model(folder: Path, classes: Sequence[str], size: tuple[int, int], **options: Any) -> Model:
    """Write a model folder, see ``write_model``, and load it."""
    return load_model(write_model(folder, classes, size, **options))


def _graph(
    weights: Weights, size: tuple[int, int], stride: int, kind: str, trap: Trap | None, lasting: int, dynamic: bool
) -> onnx.ModelProto:
    classes = len(weights.bias)
    constants = {"matrix": weights.matrix.reshape(classes, 3, 1, 1), "bias": weights.bias}
    nodes = [helper.make_node("Conv", ["image", "matrix", "bias"], ["scores"], strides=[stride, stride])]
    if trap:
        trapped, more = _trap(trap, lasting)
        nodes, constants = nodes + trapped, {**constants, **more}
    scores = "trapped" if trap else "scores"
    if kind == "labels":
        nodes.append(helper.make_node("ArgMax", [scores], ["result"], axis=1, keepdims=0))
    elif kind == "probabilities":
        nodes.append(helper.make_node("Softmax", [scores], ["result"], axis=1))
    else:
        nodes.append(helper.make_node("Identity", [scores], ["result"]))
    height, width = (-(-side // stride) for side in size)
    shape: list[Any] = [1, 3, *size]
    out: list[Any] = [1, height, width] if kind == "labels" else [1, classes, height, width]
    if dynamic:
        shape, out = ["N", 3, "H", "W"], ["N", *out[1:-2], "h", "w"]
    result_type = TensorProto.INT64 if kind == "labels" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("result", result_type, out)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _trap(trap: Trap, lasting: int) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """Return nodes that take "scores" to "trapped", the same but for one kind of image."""
    make = helper.make_node
    if trap not in {"fails on white", "nan on black", "infinite on black"}:
        return _endless(trap, lasting)
    if trap == "fails on white":  # an index past the end: 255 / 255 = 1 in a list of one
        nodes = [
            make("ReduceMax", ["image"], ["brightest"], keepdims=0),
            make("Div", ["brightest", "white"], ["level"]),
            make("Cast", ["level"], ["index"], to=TensorProto.INT64),
            make("Gather", ["ones", "index"], ["one"]),
            make("Mul", ["scores", "one"], ["trapped"]),
        ]
        return nodes, {"white": np.array(255, np.float32), "ones": np.ones(1, np.float32)}
    numerator = "brightest" if trap == "nan on black" else "one"  # 0 / 0 or 1 / 0
    nodes = [
        make("ReduceMax", ["image"], ["brightest"], keepdims=0),
        make("Div", [numerator, "brightest"], ["ratio"]),
        make("Mul", ["ratio", "zero" if trap == "nan on black" else "tiny"], ["offset"]),
        make("Add", ["scores", "offset"], ["trapped"]),
    ]
    return nodes, {"one": np.array(1, np.float32), "zero": np.array(0, np.float32), "tiny": np.array(1e-30, np.float32)}


def _endless(trap: Trap, lasting: int) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """Return nodes that take more than ``SOON`` on a colour: in a loop that can be left, or an operator that cannot.

    Not longer in the tests' own process: a thread that cannot be ended would keep its core from all tests that follow.
    """
    make, value = helper.make_node, helper.make_tensor_value_info
    constants: dict[str, NDArray[Any]] = {
        "color": np.array(0 if trap == "loops on black" else 255, np.float32),
        "zero": np.array(0, np.float32),
    }
    nodes = [
        make("ReduceMax", ["image"], ["brightest"], keepdims=0),
        make("Equal", ["brightest", "color"], ["caught"]),
    ]
    if trap.startswith("loops"):
        body = helper.make_graph(
            [make("Identity", ["go"], ["on"]), make("Add", ["sum", "zero"], ["more"])],
            "turn",
            [
                value("turn", TensorProto.INT64, []),
                value("go", TensorProto.BOOL, []),
                value("sum", TensorProto.FLOAT, []),
            ],
            [value("on", TensorProto.BOOL, []), value("more", TensorProto.FLOAT, [])],
        )
        nodes += [
            make("Cast", ["caught"], ["some"], to=TensorProto.INT64),
            make("Mul", ["some", "many"], ["turns"]),
            make("Loop", ["turns", "true", "zero"], ["spent"], body=body),
        ]
        constants |= {"many": np.array(TURNS * lasting), "true": np.array(True)}
    else:
        window = round(WINDOW * lasting**0.25)  # as many pixels at as many places
        long = [
            make("Expand", ["brightest", "large"], ["plane"]),
            make("AveragePool", ["plane"], ["pooled"], kernel_shape=[window, window]),
            make("ReduceMin", ["pooled"], ["long"], keepdims=0),
        ]
        branches = {
            f"{name}_branch": helper.make_graph(graph, name, [], [value(name, TensorProto.FLOAT, [])])
            for name, graph in (
                ("then", [*long, make("Identity", ["long"], ["then"])]),
                ("else", [make("Identity", ["zero"], ["else"])]),
            )
        }
        nodes.append(make("If", ["caught"], ["spent"], **branches))
        constants |= {"large": np.array([1, 1, 2 * window, 2 * window])}
    return [*nodes, make("Add", ["scores", "spent"], ["trapped"])], constants


@dataclass(frozen=True)
class World:
    """Two models, a task and a data set that fit together; files under one folder.

    Attributes:
        main, sub: model folders.
        task: task file.
        dataset: data set file; its ground truth is in sub classes, value 200 is ignored.
        images: H x W x 3 uint8 RGB by image name (``data set/stem``).
        truths: H x W uint8 annotation values by image name.
        main_weights, sub_weights: the models' linear functions.
    """

    folder: Path
    main: Path
    sub: Path
    task: Path
    dataset: Path
    images: dict[str, NDArray[np.uint8]]
    truths: dict[str, NDArray[np.uint8]]
    main_weights: Weights
    sub_weights: Weights


MAIN_CLASSES = ("road", "rider", "car")
SUB_CLASSES = ("road", "person", "bicycle", "bag", "car")
IGNORED = 200


def write_world(folder: Path, images: int = 4, size: tuple[int, int] = (12, 10), seed: int = 0) -> World:
    """Write a world: main *rider* becomes *person* or *bicycle*; *bag* is neither similar nor added."""
    weights = Weights.random(len(MAIN_CLASSES), seed + 1), Weights.random(len(SUB_CLASSES), seed + 2)
    main = write_model(folder / "main", MAIN_CLASSES, size, weights=weights[0])
    sub = write_model(folder / "sub", SUB_CLASSES, size, weights=weights[1])
    task = folder / "task.yaml"
    task.write_text(
        "main: main/classes.csv\nsub: sub/classes.csv\nsimilar: {road: [road], car: [car]}\nadd: [person, bicycle]\n",
        encoding="utf-8",
    )
    dataset, pictures, truths = write_dataset(folder, "drive", images, size, seed)
    return World(folder, main, sub, task, dataset, pictures, truths, *weights)


def write_dataset(
    folder: Path, name: str, images: int, size: tuple[int, int], seed: int
) -> tuple[Path, dict[str, NDArray[np.uint8]], dict[str, NDArray[np.uint8]]]:
    """Write a data set of noise in ``folder/name``, with sub classes as values; return its file, images and truths."""
    random = np.random.default_rng(seed)
    root = folder / name
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    write_classes(root / "classes.csv", SUB_CLASSES)
    pictures, truths = {}, {}
    for number in range(images):
        stem = f"{number:04}"
        picture = random.integers(0, 256, (*size, 3), np.uint8)
        truth = random.choice(np.array([*range(len(SUB_CLASSES)), IGNORED], np.uint8), size)
        cv2.imwrite(str(root / "images" / f"{stem}.png"), picture[:, :, ::-1])
        cv2.imwrite(str(root / "labels" / f"{stem}.png"), truth)
        pictures[f"{name}/{stem}"], truths[f"{name}/{stem}"] = picture, truth
    file = root / "dataset.yaml"
    file.write_text(
        f"name: {name}\nimages: images\nlabels: labels\nclasses: classes.csv\nignore: [{IGNORED}]\n", encoding="utf-8"
    )
    return file, pictures, truths


def random_evidence(groups: Sequence[int], mains: int, subs: int, seed: int = 0) -> Evidence:
    """Return evidence of random small weights in quarters, which scores of few digits are summed up with exactly.

    Args:
        groups: the group of each output class.
        mains: number of main classes.
        subs: number of sub classes.
        seed: of the weights.
    """
    random = np.random.default_rng(seed)
    count = max(groups) + 1

    def quarters(*shape: int) -> NDArray[np.float32]:
        return (random.integers(-8, 9, shape) / 4).astype(np.float32)

    main, sub = quarters(count, mains), quarters(count, subs)
    main[:, 0] -= main.sum(axis=1)
    sub[:, 0] -= sub.sum(axis=1)
    learned = {"gamma": 0.5, "temperature": 1.25, "penalty": 1e-3, "samples": 1000, "recordings": 3}
    return Evidence(np.array(groups, np.int32), main, sub, quarters(count), quarters(count), **learned)  # type: ignore[arg-type]


def random_rules(main: Model, sub: Model, task: Path, seed: int = 0, kind: Kind = "table") -> Rules:
    """Return rules for two models from random counts and, for ``kind`` = ``probability``, random evidence."""
    loaded = Task.load(task)
    classes = len(sub.card.classes)
    counts = np.random.default_rng(seed).integers(0, 9, (len(main.card.classes), classes, classes))
    made = Provenance(loaded.fingerprint, main.fingerprint, sub.fingerprint, ("d",), 1, 1, 1, "0", "now")
    groups = groups_of(loaded).tolist()
    evidence = random_evidence(groups, len(main.card.classes), classes, seed) if kind == "probability" else None
    return derive(counts, loaded, made, evidence)
