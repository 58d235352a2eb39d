"""Changing ONNX graphs."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from classaug_ros.models.card import Upsampling

_CONVENTIONS: dict[bytes, Upsampling] = {
    b"half_pixel": "half_pixel",
    b"pytorch_half_pixel": "half_pixel",
    b"align_corners": "align_corners",
    b"asymmetric": "asymmetric",
}


def cut_upsampling(model: onnx.ModelProto) -> Upsampling | None:
    """Let a model end before the bilinear upsampling it ends with, if it does.

    Its output keeps its name, and has no declared size until ``declare_output``.

    Args:
        model: a model with one output; it is changed.

    Returns:
        The convention of the upsampling taken off; None where there was none, and nothing changed.
    """
    graph = model.graph
    name = graph.output[0].name
    last = next((node for node in graph.node if name in node.output), None)
    if last is None or last.op_type != "Resize":
        return None
    attributes = {attribute.name: attribute.s for attribute in last.attribute}
    # ONNX's defaults: a Resize that says nothing is nearest neighbour, by half pixels.
    convention = _CONVENTIONS.get(attributes.get("coordinate_transformation_mode", b"half_pixel"))
    if convention is None or attributes.get("mode", b"nearest") != b"linear":
        return None
    before = last.input[0]
    graph.node.remove(last)
    for node in graph.node:
        for names in (node.input, node.output):
            for number, tensor in enumerate(names):
                if tensor == before:
                    names[number] = name
    # How large it is now shows when it runs.
    graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    _prune(graph)
    return convention


def declare_output(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    """Write the sizes of a model's one output, float32, into it."""
    output = model.graph.output[0]
    output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, shape))


def _prune(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that nothing needs."""
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):  # nodes stand in the order they run in
        if needed.intersection(node.output):
            needed.update(node.input)
            needed.update(_captured(node))
        else:
            graph.node.remove(node)
    for constant in [constant for constant in graph.initializer if constant.name not in needed]:
        graph.initializer.remove(constant)


def _captured(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node's inner graphs (of If and Loop) use."""
    inner = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return {name for graph in inner for used in graph.node for name in (*used.input, *_captured(used))}
