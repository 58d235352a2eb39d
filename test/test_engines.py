"""Engines: the output of real models, and every way a model can differ from its card."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from support.tinymodels import Weights, tiny_model, write_model

from classaug_ros.engines import load_engine
from classaug_ros.engines.checked import CheckedEngine
from classaug_ros.engines.interface import Port
from classaug_ros.errors import EngineError
from classaug_ros.models.card import load_model

CLASSES = ("a", "b", "c", "d")
SIZE = (6, 10)


def picture(
    value: int | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """An image, and the same as input of a model with mean 0 and scale 1."""
    rgb = np.random.default_rng(3).integers(1, 255, (*SIZE, 3), np.uint8)
    if value is not None:
        rgb[:] = value
    return rgb, np.ascontiguousarray(rgb.transpose(2, 0, 1)[np.newaxis].astype(np.float32))


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["logits", "probabilities", "labels"])
def test_outputs_are_the_model_s(kind: str, stride: int, dynamic: bool, tmp_path: Path) -> None:
    weights = Weights.random(len(CLASSES), 4)
    model = tiny_model(tmp_path / "m", CLASSES, SIZE, kind=kind, stride=stride, dynamic=dynamic, weights=weights)
    rgb, image = picture()
    scores = weights.scores(rgb)[:, ::stride, ::stride]
    output = load_engine(model, 1).run(image)[0]
    if kind == "labels":
        assert output.dtype == np.uint8
        np.testing.assert_array_equal(output, scores.argmax(axis=0))
        return
    assert output.dtype == np.float32
    if kind == "probabilities":
        exponents = np.exp(scores - scores.max(axis=0))
        scores = exponents / exponents.sum(axis=0)
    np.testing.assert_allclose(output, scores, rtol=1e-4, atol=1e-6)


def test_labels_past_255_classes_have_16_bits(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(300)]
    weights = Weights(np.zeros((300, 3), np.float32), np.arange(300, dtype=np.float32))
    model = tiny_model(tmp_path / "m", names, SIZE, kind="labels", weights=weights)
    output = load_engine(model, 1).run(picture()[1])
    assert output.dtype == np.uint16
    assert (output == 299).all()


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"input.name": "images"}, "its inputs are 'image', the card says 'images'; correct the card"),
        ({"input.height": 7}, "input 'image' is float32 1 x 3 x 6 x 10, the card says float32 1 x 3 x 7 x 10"),
        (
            {"input.width": 5},
            "input 'image' is .*, the card says float32 1 x 3 x 6 x 5; correct the card",
        ),
        ({"output.name": "logits"}, "its outputs are 'result', the card says 'logits'; correct the card"),
        ({"output.height": 12}, r"output 'result' is 1 x 4 x 6 x 10, the card says 1 x 4 x 12 x 10 \(4 classes\)"),
        ({"output.kind": "labels"}, "output 'result' is 1 x 4 x 6 x 10, the card says 1 x 6 x 10"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_when_loading(tmp_path: Path, card: dict[str, Any], message: str) -> None:
    model = tiny_model(tmp_path / "m", CLASSES, SIZE, card=card)
    with pytest.raises(EngineError, match=f"^{model.path}: {message}"):
        load_engine(model, 1)


def test_another_number_of_classes_is_refused_when_loading(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", CLASSES, SIZE)
    (folder / "classes.csv").write_text("id,name,r,g,b\n0,a,0,0,0\n1,b,1,1,1\n")
    with pytest.raises(
        EngineError, match=r"output 'result' is 1 x 4 x 6 x 10, the card says 1 x 2 x 6 x 10 \(2 classes\)"
    ):
        load_engine(load_model(folder), 1)


@pytest.mark.parametrize("card", [{"output.height": 3}, {"output.width": 20}])
def test_free_dimensions_are_checked_when_running(tmp_path: Path, card: dict[str, Any]) -> None:
    model = tiny_model(tmp_path / "m", CLASSES, SIZE, dynamic=True, card=card)
    engine = load_engine(model, 1)
    with pytest.raises(EngineError, match=r"output 'result' has shape \(1, 4, 6, 10\), the model card says \(1, 4, "):
        engine.run(picture()[1])


def test_labels_past_the_classes_are_refused(tmp_path: Path) -> None:
    weights = Weights(np.zeros((4, 3), np.float32), np.arange(4, dtype=np.float32))
    folder = write_model(tmp_path / "m", CLASSES, SIZE, kind="labels", weights=weights)
    (folder / "classes.csv").write_text("id,name,r,g,b\n0,a,0,0,0\n1,b,1,1,1\n")
    engine = load_engine(load_model(folder), 1)
    with pytest.raises(EngineError, match=r"output 'result' has labels 3\.\.3, the card's classes are 0\.\.1; correct"):
        engine.run(picture()[1])


@pytest.mark.parametrize("trap", ["nan on black", "infinite on black"])
def test_scores_that_are_no_numbers_are_refused(tmp_path: Path, trap: str) -> None:
    engine = load_engine(tiny_model(tmp_path / "m", CLASSES, SIZE, trap=trap), 1)
    with pytest.raises(EngineError, match="output 'result' has NaN or infinity in it"):
        engine.run(picture(0)[1])
    assert np.isfinite(engine.run(picture(7)[1])).all()


class Fixed:
    """An engine of one output, for outputs that no small model gives."""

    def __init__(self, output: NDArray[Any]) -> None:
        self._output = output
        self.inputs: tuple[Port, ...] = (Port("image", "float32", (1, 3, *SIZE)),)
        self.outputs: tuple[Port, ...] = (Port("result", str(output.dtype), None),)

    def run(self, image: NDArray[np.float32]) -> NDArray[Any]:
        return self._output.repeat(len(image), axis=0)

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_one_such_score_is_enough(tmp_path: Path, value: float, place: int) -> None:
    output: NDArray[np.float32] = np.zeros((1, 4, *SIZE), np.float32)
    output.flat[place] = value
    engine = CheckedEngine(Fixed(output), tiny_model(tmp_path / "m", CLASSES, SIZE))
    with pytest.raises(EngineError, match="has NaN or infinity in it"):
        engine.run(picture()[1])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.full((1, *SIZE), 1.5), "output 'result' is float64, labels are integers; correct the card's `kind`"),
        (np.full((1, *SIZE), -1), r"output 'result' has labels -1\.\.-1, the card's classes are 0\.\.3"),
        (np.full((1, *SIZE), 4), r"output 'result' has labels 4\.\.4, the card's classes are 0\.\.3"),
    ],
    ids=["fractions", "negative", "one past the classes"],
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, output: NDArray[Any], message: str) -> None:
    engine = CheckedEngine(Fixed(output), tiny_model(tmp_path / "m", CLASSES, SIZE, kind="labels"))
    with pytest.raises(EngineError, match=message):
        engine.run(picture()[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float64], ids=str)
def test_scores_of_another_precision_become_float32(tmp_path: Path, dtype: type) -> None:
    output: NDArray[Any] = np.random.default_rng(0).standard_normal((1, 4, *SIZE)).astype(dtype)
    scores = CheckedEngine(Fixed(output), tiny_model(tmp_path / "m", CLASSES, SIZE)).run(picture()[1])
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, output.astype(np.float32))


def test_a_failure_inside_the_model_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny_model(tmp_path / "m", CLASSES, SIZE, trap="fails on white")
    engine = load_engine(model, 1)
    with pytest.raises(EngineError, match=f"^{model.path}: ONNX Runtime failed: .*indices element out of data bounds"):
        engine.run(picture(255)[1])
    assert capfd.readouterr() == ("", "")
    assert engine.run(picture()[1]).shape == (1, 4, *SIZE)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 3, 6, 9), np.float32),
        np.zeros((2, 3, 6, 10), np.float32),
        np.zeros((3, 6, 10), np.float32),
        np.zeros((1, 3, 6, 10), np.float64),
        np.zeros((1, 3, 6, 10), np.uint8),
    ],
    ids=lambda image: f"{image.shape} {image.dtype}",
)
def test_other_input_is_refused_above_the_engine(tmp_path: Path, image: Any) -> None:
    engine = load_engine(tiny_model(tmp_path / "m", CLASSES, SIZE, dynamic=True), 1)
    with pytest.raises(EngineError, match=r"expected input \(1, 3, 6, 10\) float32, found \("):
        engine.run(image)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08"], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_model_is_refused_in_one_line(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path / "m", CLASSES, SIZE)
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(EngineError, match=rf"^{folder}/model\.onnx: ONNX Runtime cannot load it: ") as caught:
        load_engine(load_model(folder), 1)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", CLASSES, SIZE)
    whole = (folder / "model.onnx").read_bytes()
    for length in range(0, len(whole), 7):
        (folder / "model.onnx").write_bytes(whole[:length])
        with pytest.raises(EngineError, match=rf"^{folder}/model\.onnx: ") as refused:
            load_engine(load_model(folder), 1)
        assert "\n" not in str(refused.value)


def test_a_model_without_its_external_data_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", CLASSES, SIZE)
    file = folder / "model.onnx"
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    load_engine(load_model(folder), 1).close()
    (folder / "weights.bin").unlink()
    with pytest.raises(EngineError, match=rf"^{file}: ONNX Runtime cannot load it: .*weights\.bin") as refused:
        load_engine(load_model(folder), 1)
    assert "\n" not in str(refused.value)


def test_a_model_that_takes_other_numbers_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", CLASSES, SIZE)
    model = onnx.load(folder / "model.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    model.graph.node[0].input[0] = "single"
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["single"], to=onnx.TensorProto.FLOAT))
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(EngineError, match="input 'image' is float64 1 x 3 x 6 x 10, the card says float32"):
        load_engine(load_model(folder), 1)


def test_a_tensorrt_engine_is_refused_on_the_cpu(tmp_path: Path) -> None:
    model = replace(tiny_model(tmp_path / "m", CLASSES, SIZE), path=tmp_path / "m" / "model.engine")
    with pytest.raises(EngineError, match=f"^{model.path}: a TensorRT engine runs on a GPU only; use device cuda, or"):
        load_engine(model, 1)


def test_without_pytorch_a_program_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "classaug_ros.engines.pt", raising=False)
    model = replace(tiny_model(tmp_path / "m", CLASSES, SIZE), path=tmp_path / "m" / "model.pt2")
    message = r"there is no Python module 'torch' here, which PyTorch needs: pip install 'classaug_ros\[gpu\]' \("
    with pytest.raises(EngineError, match=message):
        load_engine(model, 1)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_engine_has_the_threads_it_is_given(tmp_path: Path, threads: int) -> None:
    def native_threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    model = tiny_model(tmp_path / "m", CLASSES, SIZE)
    before = native_threads()
    engine = load_engine(model, threads)
    # The calling thread is one of them.
    assert native_threads() - before == threads - 1
    engine.close()
    assert native_threads() == before


def test_a_run_in_progress_ends_when_it_is_cancelled_and_no_other_begins(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m", CLASSES, SIZE, trap="loops on white")
    engine = load_engine(model, 1)
    engine.run(picture()[1])
    failed: list[Exception] = []

    def run() -> None:
        try:
            engine.run(picture(255)[1])
        except EngineError as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    engine.cancel()
    thread.join(2)
    heeded = not thread.is_alive()
    thread.join()  # a thread in a model at the end of the program can crash it
    assert heeded
    assert str(model.path) in str(failed[0])
    with pytest.raises(EngineError, match="terminate"):
        engine.run(picture()[1])
    engine.close()
    engine.close()
