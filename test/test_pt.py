"""torch.export programs: the same output as PyTorch's and ONNX Runtime's, on arrays and on tensors; what is refused."""

from __future__ import annotations

import logging
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.tinymodels import Weights, write_model

from classaug_ros.engines import BuildOptions, load_device_engine, load_engine
from classaug_ros.errors import EngineError, OutputError
from classaug_ros.models.card import Model, load_model

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

CLASSES = ("a", "b", "c", "d")
SIZE = (6, 10)
KINDS = ("logits", "probabilities", "labels")


class Linear(torch.nn.Module):  # type: ignore[misc]
    """Scores as the tiny ONNX models have them."""

    def __init__(self, weights: Weights, kind: str = "logits", stride: int = 1) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, len(weights.bias), 1, stride)
        self.conv.weight.data = torch.from_numpy(weights.matrix[:, :, None, None])
        self.conv.bias.data = torch.from_numpy(weights.bias)
        self.kind = kind

    def forward(self, image: torch.Tensor) -> Any:
        scores = self.conv(image)
        if self.kind == "labels":
            return scores.argmax(dim=1)
        return scores.softmax(dim=1) if self.kind == "probabilities" else scores


class Changed(torch.nn.Module):  # type: ignore[misc]
    """A module with something done to its output."""

    def __init__(self, inner: torch.nn.Module, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, image: torch.Tensor) -> Any:
        return self.change(self.inner(image))


def no_log(_: str) -> None:
    pass


def save(module: torch.nn.Module, path: Path, size: tuple[int, int] = SIZE, *, free: bool = False) -> None:
    """Export a module as docs/models.md says."""
    batch = ({0: torch.export.Dim("N")},) if free else None
    image = torch.zeros(2 if free else 1, 3, *size)
    torch.export.save(torch.export.export(module.eval(), (image,), dynamic_shapes=batch), path)


def program(folder: Path, module: torch.nn.Module | None = None, *, free: bool = False, **options: Any) -> Model:
    """A model folder whose model file is a program; of the tiny ONNX model's scores unless it is given."""
    weights = options.setdefault("weights", Weights.random(len(CLASSES), 4))
    write_model(folder, CLASSES, SIZE, **options)
    (folder / "model.onnx").unlink()
    if module is None:
        module = Linear(weights, options.get("kind", "logits"), options.get("stride", 1))
    save(module, folder / "model.pt2", free=free)
    return load_model(folder)


def picture(count: int = 1, size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    return np.random.default_rng(3).integers(0, 256, (count, 3, *size)).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_on_the_cpu_it_says_what_the_onnx_model_says(kind: str, stride: int, tmp_path: Path) -> None:
    weights = Weights.random(len(CLASSES), 4)
    onnx = load_model(write_model(tmp_path / "onnx", CLASSES, SIZE, kind=kind, stride=stride, weights=weights))
    expected = load_engine(onnx, 1).run(picture())
    output = load_engine(program(tmp_path / "pt2", kind=kind, stride=stride, weights=weights), 1).run(picture())
    assert output.dtype == expected.dtype
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_run_through_it_in_contexts_of_their_own(kind: str, tmp_path: Path) -> None:
    """Also several of one batch size at once; what is in the tensors when a run begins is what counts."""
    module = Linear(Weights.random(len(CLASSES), 4), kind)
    engine = load_device_engine(program(tmp_path / "m", kind=kind, free=True), "cpu", BuildOptions(), no_log)
    assert engine.inputs[0].shape == (None, 3, *SIZE)
    images = [torch.zeros(count, 3, *SIZE) for count in (1, 3, 3)]
    contexts = [engine.bind(image) for image in images]
    for turn in (0, 1):
        for image in images:
            image.copy_(torch.from_numpy(picture(len(image)) + turn))
        outputs = [context.enqueue(None) for context in contexts]
        for image, output in zip(images, outputs, strict=True):
            assert torch.equal(output, module(image))
            assert not output.requires_grad
            assert output.is_contiguous()
    engine.close()
    engine.close()


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda scores: scores, torch.float32),
        (lambda scores: scores.half(), torch.float16),
        (lambda scores: scores.double(), torch.float32),
        (lambda scores: scores.bfloat16(), torch.float32),
        (lambda scores: {"result": scores, "more": scores[:, 0]}, torch.float32),
        (lambda scores: scores.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), torch.float32),
    ],
    ids=["float32", "float16", "float64", "bfloat16", "by name", "channels last"],
)
def test_outputs_are_taken_in_several_forms(change: Callable[[Any], Any], dtype: Any, tmp_path: Path) -> None:
    inner = Linear(Weights.random(len(CLASSES), 4))
    model = program(tmp_path / "m", Changed(inner, change))
    image = torch.from_numpy(picture())
    output = load_device_engine(model, "cpu", BuildOptions(), no_log).bind(image).enqueue(None)
    assert (output.dtype, output.is_contiguous()) == (dtype, True)
    torch.testing.assert_close(output.float(), inner(image), rtol=1e-2, atol=1)
    assert load_engine(model, 1).run(picture()).dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda scores: scores[:, :3],
            r"output 'result' is 1 x 3 x 6 x 10, the card says 1 x 4 x 6 x 10 \(4 classes\)",
        ),
        (lambda scores: {"scores": scores}, "its outputs are 'scores', the card says 'result'; correct the card"),
        (lambda scores: (scores, scores), "gives a tuple, expected a tensor, or tensors by their names"),
    ],
    ids=["shape", "name", "tuple"],
)
@pytest.mark.parametrize("on_device", [False, True], ids=["arrays", "tensors"])
def test_a_program_that_is_not_what_its_card_says_is_refused(
    change: Callable[[Any], Any], message: str, on_device: bool, tmp_path: Path
) -> None:
    model = program(tmp_path / "m", Changed(Linear(Weights.random(len(CLASSES), 4)), change))
    with pytest.raises(EngineError, match=rf"^{model.path}: {message}"):
        load_device_engine(model, "cpu", BuildOptions(), no_log) if on_device else load_engine(model, 1)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("labels", lambda labels: labels.float(), "is float32, labels are integers; correct the card's `kind`"),
        ("logits", lambda scores: scores.int(), "is int32, scores are float32 or float16; correct the card's `kind`"),
    ],
)
def test_an_output_of_another_type_is_refused(
    kind: str, change: Callable[[Any], Any], message: str, tmp_path: Path
) -> None:
    model = program(tmp_path / "m", Changed(Linear(Weights.random(len(CLASSES), 4), kind), change), kind=kind)
    context = load_device_engine(model, "cpu", BuildOptions(), no_log).bind(torch.zeros(1, 3, *SIZE))
    with pytest.raises(OutputError, match=rf"^{model.path}: output 'result' {message}$"):
        context.enqueue(None)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 3, 6, 9), "expected input float32 1 x 3 x 6 x 10, found float32 1 x 3 x 6 x 9"),
        (
            torch.zeros(2, 3, 6, 10),
            "takes batches of 1, not of 2: export it with a free batch, or build it by `classaug build-engine --batch`",
        ),
        (torch.zeros(1, 3, 6, 10).half(), "expected input float32 1 x 3 x 6 x 10, found float16 1 x 3 x 6 x 10"),
        (torch.zeros(1, 3, 10, 6).mT, "expected a contiguous tensor on cpu"),
        (torch.zeros(1, 3, 6, 10, device="meta"), "expected a contiguous tensor on cpu"),
    ],
    ids=["size", "batch", "type", "strides", "device"],
)
def test_a_tensor_that_does_not_fit_is_refused(image: torch.Tensor, message: str, tmp_path: Path) -> None:
    engine = load_device_engine(program(tmp_path / "m"), "cpu", BuildOptions(), no_log)
    with pytest.raises(EngineError, match=rf"model\.pt2: {message}$"):
        engine.bind(image)


class BoundToDevices(torch.nn.Module):  # type: ignore[misc]
    """Everything that a program may have written down of the device it was exported on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 1)
        self.register_buffer("factor", torch.ones(4, 1, 1))
        self.constant = torch.arange(10.0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores = self.conv(image.to("cpu"))
        with torch.autocast("cpu", enabled=False):  # a graph of its own within the graph
            made = torch.linspace(0, 1, 10, device="cpu") + torch.zeros(10, device=image.device)
        return scores * self.factor + self.constant + made


def test_a_program_moves_to_another_device_whole(tmp_path: Path) -> None:
    """To the device without memory, which computes shapes only, and refuses tensors of two devices as a GPU does."""
    from classaug_ros.engines.pt import TorchProgram

    model = program(tmp_path / "m", BoundToDevices())
    context = TorchProgram(model, torch.device("meta")).bind(torch.empty(1, 3, *SIZE, device="meta"))
    output = context.enqueue(None)
    assert (output.device.type, tuple(output.shape)) == ("meta", (1, 4, *SIZE))


def test_each_run_has_the_threads_of_its_model(tmp_path: Path) -> None:
    model, before = program(tmp_path / "m"), torch.get_num_threads()
    try:
        engines = [load_engine(model, threads) for threads in (1, 2)]
        seen = []
        for engine in (*engines, engines[0]):
            engine.run(picture())
            seen.append(torch.get_num_threads())
        assert seen == [1, 2, 1]
    finally:
        torch.set_num_threads(before)


def test_two_programs_run_in_threads_of_their_own(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    models = [program(tmp_path / str(seed), weights=Weights.random(len(CLASSES), seed)) for seed in (1, 2)]
    engines = [load_engine(model, 1) for model in models]
    expected = [engine.run(picture()) for engine in engines]
    wrong: list[int] = []

    def run(number: int) -> None:
        wrong.extend(number for _ in range(50) if not (engines[number].run(picture()) == expected[number]).all())

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.set_num_threads(before)
    assert wrong == []


def test_cancelled_it_runs_no_more_until_it_is_loaded_again(tmp_path: Path) -> None:
    model = program(tmp_path / "m")
    engine = load_engine(model, 1)
    engine.run(picture())
    engine.cancel()
    with pytest.raises(EngineError, match=rf"^{model.path}: PyTorch failed: it was told to terminate$"):
        engine.run(picture())
    engine.close()
    engine.close()
    assert load_engine(model, 1).run(picture()).shape == (1, 4, *SIZE)


class Checked(torch.nn.Module):  # type: ignore[misc]
    """Refuses bright images."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        torch._assert_async(image.max() < 300, "too bright")
        return image[:, :1].repeat(1, 4, 1, 1)


def test_a_failure_inside_is_one_line(tmp_path: Path) -> None:
    model = program(tmp_path / "m", Checked())
    engine = load_engine(model, 1)
    engine.run(picture())
    with pytest.raises(EngineError, match=rf"^{model.path}: PyTorch failed: .*too bright") as failed:
        engine.run(picture() + 1000)
    assert "\n" not in str(failed.value)


# Files that will not do


@pytest.mark.parametrize(
    "content", [b"", b"not a program", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "no parts"]
)
def test_a_file_that_is_no_program_is_refused_in_one_line(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = program(tmp_path / "m")
    model.path.write_bytes(content)
    with pytest.raises(
        EngineError, match=rf"^{model.path}: PyTorch {torch.__version__.replace('+', '.')} cannot load"
    ) as bad:
        load_engine(model, 1)
    assert "\n" not in str(bad.value)
    assert capfd.readouterr().out == ""


def test_a_program_cut_off_anywhere_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = program(tmp_path / "m")
    whole = model.path.read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        model.path.write_bytes(whole[:length])
        with pytest.raises(EngineError, match=rf"^{model.path}: PyTorch \S+ cannot load it: ") as refused:
            load_engine(model, 1)
        assert "\n" not in str(refused.value)
        assert "warnings above" not in str(refused.value)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


class Trap:
    """An object that writes a file as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("part", ["sample_inputs/model.pt", "weights/weight_0"])
def test_nothing_is_unpickled(part: str, tmp_path: Path) -> None:
    model = program(tmp_path / "m")
    sprung = tmp_path / "sprung"
    torch.save(Trap(sprung), tmp_path / "trap.pt")
    rewrite(model.path, part, (tmp_path / "trap.pt").read_bytes())
    if part.startswith("weights"):
        rewrite(model.path, "model_weights_config.json", None, (b'"use_pickle": false', b'"use_pickle": true'))
    with pytest.raises(
        EngineError, match=rf"^{model.path}: has pickled objects in it; save a program of tensors alone$"
    ):
        load_engine(model, 1)
    assert not sprung.exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize("part", ["constants/custom_obj_0", "constants/opaque_obj_0", "aotinductor/model/model.so"])
def test_objects_and_machine_code_are_refused(part: str, tmp_path: Path) -> None:
    model = program(tmp_path / "m")
    with zipfile.ZipFile(model.path, "a") as archive:
        archive.writestr(f"model/data/{part}", b"x")
    with pytest.raises(
        EngineError, match=rf"has pickled objects or machine code in it \('model/data/{part}'\); save a"
    ):
        load_engine(model, 1)


def rewrite(path: Path, part: str, content: bytes | None, *replacements: tuple[bytes, bytes]) -> None:
    """Write an archive again, stored as PyTorch reads it, with one part changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in parts if name.endswith(part))
    for before, after in replacements:
        parts[name] = parts[name].replace(before, after)
    parts[name] = parts[name] if content is None else content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for each, data in parts.items():
            archive.writestr(each, data)


# A real architecture


def test_a_segformer_runs_as_in_transformers(tmp_path: Path) -> None:
    """Random weights, several images at once, exported as docs/models.md says."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 16, "depths": [1, 1, 1, 1]}
    config = transformers.SegformerConfig(num_labels=len(CLASSES), **sizes)
    net = transformers.SegformerForSemanticSegmentation(config).eval()

    class Net(torch.nn.Module):  # type: ignore[misc]
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return net(pixel_values=image).logits

        def __init__(self) -> None:
            super().__init__()
            self.net = net

    size = (64, 96)
    folder = write_model(tmp_path / "m", CLASSES, size, stride=4)
    (folder / "model.onnx").unlink()
    save(Net(), folder / "model.pt2", size, free=True)
    engine = load_device_engine(load_model(folder), "cpu", BuildOptions(), no_log)
    for count in (1, 3):
        image = torch.from_numpy(picture(count, size) / 255)
        output = engine.bind(image).enqueue(None)
        with torch.no_grad():
            torch.testing.assert_close(output, net(pixel_values=image).logits)
