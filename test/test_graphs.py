"""Cutting the upsampling off a graph, on small graphs that really run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from support.tinymodels import IR_VERSION, OPSET

from classaug_ros.convert.cards import noise
from classaug_ros.convert.graphs import cut_upsampling, declare_output
from classaug_ros.engines.onnxrt import OnnxRuntimeEngine, declared
from classaug_ros.models.card import InputSpec, Model, ModelCard, OutputSpec
from classaug_ros.models.labels import LabelSpace

SIZE = (4, 6)


def graph(*ends: onnx.NodeProto) -> onnx.ModelProto:
    """Return a graph with constants: scores are twice the image, and ``ends`` go from "scores" to "result"."""
    nodes = [helper.make_node("Mul", ["image", "two"], ["scores"]), *ends]
    constants = {"two": np.float32(2), "sizes": np.array([1, 3, 8, 12], np.int64), "unused": np.float32(1)}
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *SIZE])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def resize(**attributes: str) -> onnx.NodeProto:
    return helper.make_node("Resize", ["scores", "", "", "sizes"], ["result"], **attributes)


def run(model: onnx.ModelProto, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return an input and the output it gives."""
    declare_output(model, (1, 3, *SIZE))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    inputs = InputSpec("image", *SIZE, "rgb", (0, 0, 0), (1, 1, 1))
    card = ModelCard("g", LabelSpace(("a",), ((0, 0, 0),)), inputs, OutputSpec("result", "logits", 1, 1, "half_pixel"))
    image = noise(inputs)
    return image, OnnxRuntimeEngine(Model(path, card, ""), 1).run(image)


@pytest.mark.parametrize(
    ("mode", "convention"),
    [
        ("half_pixel", "half_pixel"),
        ("pytorch_half_pixel", "half_pixel"),
        ("align_corners", "align_corners"),
        ("asymmetric", "asymmetric"),
    ],
)
def test_a_bilinear_resize_at_the_end_is_cut_off(mode: str, convention: str, tmp_path: Path) -> None:
    model = graph(resize(mode="linear", coordinate_transformation_mode=mode))
    assert cut_upsampling(model) == convention
    assert [node.op_type for node in model.graph.node] == ["Mul"]
    assert [constant.name for constant in model.graph.initializer] == ["two"]
    image, output = run(model, tmp_path / "m.onnx")
    np.testing.assert_array_equal(output, 2 * image)


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param([resize()], id="nearest neighbour"),
        pytest.param([resize(mode="cubic")], id="bicubic"),
        pytest.param(
            [resize(mode="linear", coordinate_transformation_mode="half_pixel_symmetric")], id="another convention"
        ),
        pytest.param([helper.make_node("Relu", ["scores"], ["result"])], id="no resize"),
        pytest.param(
            [
                helper.make_node("Resize", ["scores", "", "", "sizes"], ["large"], mode="linear"),
                helper.make_node("Relu", ["large"], ["result"]),
            ],
            id="a resize before the end",
        ),
    ],
)
def test_other_ends_stay(ends: list[onnx.NodeProto]) -> None:
    model = graph(*ends)
    before = model.SerializeToString()
    assert cut_upsampling(model) is None
    assert model.SerializeToString() == before


def test_what_the_cut_leaves_without_use_goes_and_what_is_used_elsewhere_stays(tmp_path: Path) -> None:
    model = graph(
        helper.make_node("Shape", ["scores"], ["shape"]),  # only the resize needs it
        helper.make_node("Relu", ["scores"], ["positive"]),
        helper.make_node("Add", ["positive", "scores"], ["sum"]),
        helper.make_node("Mul", ["shape", "shape"], ["larger"]),
        helper.make_node("Resize", ["sum", "", "", "sizes"], ["result"], mode="linear"),
    )
    assert cut_upsampling(model) == "half_pixel"
    assert [node.op_type for node in model.graph.node] == ["Mul", "Relu", "Add"]
    image, output = run(model, tmp_path / "m.onnx")
    np.testing.assert_array_equal(output, 4 * image)


def test_the_output_s_size_can_be_declared(tmp_path: Path) -> None:
    model = graph(resize(mode="linear"))
    cut_upsampling(model)
    run(model, tmp_path / "m.onnx")
    (port,) = declared(tmp_path / "m.onnx")[1]
    assert (port.name, port.dtype, port.shape) == ("result", "float32", (1, 3, *SIZE))
