"""ONNX models as TensorRT is to have them: of the card's size, for the batches wanted, in float32 or float16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from classaug_ros.engines.checked import check_ports
from classaug_ros.engines.onnxrt import FATAL_SEVERITY, declared
from classaug_ros.errors import EngineError, first_line
from classaug_ros.models.card import Model
from classaug_ros.models.engine_manifest import BuildOptions

T = TypeVar("T")

FREE = "N"
TOLERANCE = 1e-3
"""How much a score may change with the batch it is in, relative to the largest: sums in another order differ."""


def network(model: Model, options: BuildOptions) -> bytes:
    """Return the ONNX model to build an engine from.

    Its input has the card's height and width. Its batch is fixed where only one size is wanted, and free otherwise. In
    fp16 all weights and operators but those that need float32's range are float16; input and output stay as they are.

    Raises:
        EngineError: the file is no ONNX model, is not what its card says, or cannot have such batches.
    """
    inputs, outputs = declared(model.path)
    check_ports(inputs, outputs, model)
    shape = inputs[0].shape
    fixed = shape[0] if shape else None
    proto = _run(model, onnx.load, model.path)
    least, _, most = options.batch
    if fixed is not None and not fixed == least == most:
        _free_batch(model, proto, fixed)
    _set_input(proto, model, least if least == most else FREE)
    if options.precision == "fp16":
        proto = _run(model, convert_float_to_float16, proto, keep_io_types=True)
    text: bytes = _run(model, proto.SerializeToString)
    return text


def _set_input(proto: onnx.ModelProto, model: Model, batch: int | str) -> None:
    """Set the sizes of the input. Those of all else follow: what was written down of them is removed."""
    spec = model.card.input
    entry = next(entry for entry in proto.graph.input if entry.name == spec.name)
    entry.CopyFrom(
        onnx.helper.make_tensor_value_info(spec.name, onnx.TensorProto.FLOAT, [batch, 3, spec.height, spec.width])
    )
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        kind = output.type.tensor_type.elem_type
        output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, kind, None))


def _free_batch(model: Model, proto: onnx.ModelProto, fixed: int) -> None:
    """Make a model for batches of one size into one for any, if that can be done.

    A Reshape to the fixed size is made to keep what there is. Whether that was all is tried out.
    """
    original = proto.SerializeToString()
    _set_input(proto, model, FREE)
    constants = {constant.name: constant for constant in proto.graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in proto.graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }
    shapes = {node.input[1] for node in proto.graph.node if node.op_type == "Reshape"}
    others = {name for node in proto.graph.node for name in node.input if node.op_type != "Reshape"}
    for name in shapes & set(constants) - others:
        sizes = numpy_helper.to_array(constants[name]).copy()
        if sizes.size > 1 and sizes[0] == fixed:
            sizes[0] = 0  # what the input has
            constants[name].CopyFrom(numpy_helper.from_array(sizes, name))
    if not _same_in_batches(model, original, proto.SerializeToString(), fixed):
        raise EngineError(
            f"{model.path}: takes batches of {fixed}, and cannot be changed to take others: export it with a free "
            f"batch size, or leave the batch at {fixed} {fixed} {fixed}"
        )


def _same_in_batches(model: Model, original: bytes, changed: bytes, fixed: int) -> bool:
    """Tell whether the changed model gives for two batches at once what the original gives for one after the other."""
    spec = model.card.input
    random = np.random.default_rng(0).integers(0, 256, (2 * fixed, 3, spec.height, spec.width))
    channels = (1, 3, 1, 1)
    images = ((random - np.reshape(spec.mean, channels)) * np.reshape(spec.scale, channels)).astype(np.float32)
    try:
        apart = np.concatenate([_output(model, original, half) for half in np.split(images, 2)])
        together = _output(model, changed, images)
    except Exception:  # noqa: BLE001 (ONNX Runtime's have no base; whatever it is, the change was none to make)
        return False
    if together.shape != apart.shape:
        return False
    if model.card.output.kind == "labels":
        return bool((together == apart).mean() > 1 - TOLERANCE)
    return bool(np.abs(together - apart).max() <= TOLERANCE * np.abs(apart).max())


def _output(model: Model, proto: bytes, images: NDArray[np.float32]) -> NDArray[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_SEVERITY
    session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    output: NDArray[Any] = session.run([model.card.output.name], {model.card.input.name: images})[0]
    return output


def _run(model: Model, work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    try:
        return work(*arguments, **options)
    except Exception as error:  # neither ONNX nor the converter has a base for its exceptions
        raise EngineError(f"{model.path}: no engine can be built from it: {first_line(error)}") from error
