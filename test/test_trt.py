"""TensorRT: the names that are used of it, what becomes of its errors, and what its engines are bound to.

No engine runs here, as that takes a GPU: how one is bound and run is tried on stand-ins that are as strict as the
documented interface. Everything else is TensorRT-RTX itself.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support import tensorrtnames
from support.tinymodels import tiny_model, write_model

from classaug_ros.engines import BuildOptions, load_device_engine, load_engine, needs
from classaug_ros.errors import EngineError, OutputError
from classaug_ros.models.card import Model, load_model
from classaug_ros.models.engine_manifest import EngineManifest, Machine, manifest_path

if TYPE_CHECKING:
    import torch
else:
    torch = pytest.importorskip("torch")

PROJECT = Path(__file__).resolve().parents[1]
ENGINES = PROJECT / "classaug_ros/engines"
VERSIONS = tensorrtnames.parsed(tensorrtnames.NAMES.read_text())
CLASSES = ("a", "b", "c", "d")
SIZE = (8, 16)

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs TensorRT-RTX")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return tiny_model(tmp_path / "net", CLASSES, SIZE, dynamic=True)


def no_log(_: str) -> None:
    pass


# Names


@pytest.fixture(scope="module")
def used() -> set[tuple[str, str]]:
    return tensorrtnames.used(ENGINES / "trt.py", ENGINES / "build.py")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_used_is_in_tensorrt(version: str, used: set[tuple[str, str]]) -> None:
    assert tensorrtnames.missing(used, VERSIONS[version]) == []


@needs_rtx
def test_every_name_used_is_in_tensorrt_rtx(used: set[tuple[str, str]]) -> None:
    (names,) = tensorrtnames.parsed(tensorrtnames.in_bindings("tensorrt_rtx")).values()
    assert tensorrtnames.missing(used, names) == []


def test_names_are_found_wherever_they_are_used(used: set[tuple[str, str]]) -> None:
    """Those of each object, of what methods return, of chains, and of methods that TensorRT calls."""
    assert used >= {
        ("module", "Runtime"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("ILogger.Severity", "INTERNAL_ERROR"),
        ("ILogger", "log"),
        ("IProgressMonitor", "step_complete"),
        ("Builder", "build_serialized_network"),
        ("OnnxParser", "parse"),
        ("IBuilderConfig", "max_aux_streams"),
        ("IOptimizationProfile", "set_shape"),
        ("ITimingCache", "serialize"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "create_execution_context"),
        ("IExecutionContext", "execute_async_v3"),
        ("DataType", "name"),
    }


def test_a_name_that_one_version_lacks_is_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("trt.BuilderFlag.FP16\nengine.has_implicit_batch_dimension\nbuilder.create_network(0)\n")
    found = {version: tensorrtnames.missing(tensorrtnames.used(module), names) for version, names in VERSIONS.items()}
    gone = ["BuilderFlag.FP16", "ICudaEngine.has_implicit_batch_dimension"]
    assert found == {"10.3.0": [], "10.13.3.9": [], "11.4.0.106": gone}


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_names_written_down_are_those_of_the_bindings(tmp_path: Path) -> None:
    """Of the version installed, whose libraries need not be."""
    found = importlib.util.find_spec("tensorrt_bindings")
    if found is None or found.origin is None:
        pytest.skip("needs TensorRT's bindings")
    version = distribution("tensorrt-cu13-bindings").version
    libraries = tensorrtnames.stand_ins(tmp_path, version.partition(".")[0])
    folder = Path(found.origin).parents[1]
    names = tensorrtnames.parsed(tensorrtnames.in_bindings("tensorrt_bindings", folder=folder, libraries=libraries))
    assert names == {version: VERSIONS[version]}


# Errors


@needs_rtx
def test_what_tensorrt_logs_as_an_error_is_raised_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    from classaug_ros.engines.trt import call, logger, trt

    runtime = call("x", trt.Runtime, logger())
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(EngineError, match=r"^model\.onnx: cannot be loaded: .*Error Code 2: Internal Error"),
    ):
        call("model.onnx: cannot be loaded", runtime.deserialize_cuda_engine, b"no engine, just some text")
    assert caplog.messages == []


@needs_rtx
def test_errors_and_warnings_nobody_waits_for_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    from classaug_ros.engines.trt import logger, trt

    severity = trt.ILogger.Severity
    with caplog.at_level(logging.DEBUG):
        for level in (severity.VERBOSE, severity.INFO, severity.WARNING, severity.ERROR, severity.INTERNAL_ERROR):
            logger().log(level, f"a {level.name}")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "TensorRT: a INFO"),
        ("WARNING", "TensorRT: a WARNING"),
        ("ERROR", "TensorRT: a ERROR"),
        ("ERROR", "TensorRT: a INTERNAL_ERROR"),
    ]


@needs_rtx
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda: None, "it does not say why"),
        (lambda: False, "it does not say why"),
        (lambda: int("x\ny"), "invalid literal for int"),
    ],
    ids=["nothing", "false", "raises"],
)
def test_a_refusal_without_an_error_is_raised_too(function: Callable[[], Any], reason: str) -> None:
    from classaug_ros.engines.trt import call

    with pytest.raises(EngineError, match=f"^what: {reason}") as raised:
        call("what", function)
    assert "\n" not in str(raised.value)


@needs_rtx
def test_an_error_is_raised_though_the_call_says_it_succeeded() -> None:
    from classaug_ros.engines.trt import call, logger, trt

    def succeed() -> bool:
        logger().log(trt.ILogger.Severity.ERROR, "Error Code: 9: Skipping tactic 0x1 due to exception")
        logger().log(trt.ILogger.Severity.ERROR, "first\nsecond")
        logger().log(trt.ILogger.Severity.ERROR, "third")
        return True

    with pytest.raises(EngineError, match=r"^what: first$"):
        call("what", succeed)
    assert call("what", succeed, forgiving=True)
    with pytest.raises(EngineError, match=r"^what: first$"):
        call("what", lambda: not succeed(), forgiving=True)
    assert call("what", lambda: 0) == 0
    assert call("what", list) == []


@needs_rtx
def test_warnings_of_a_build_are_for_those_who_look(caplog: pytest.LogCaptureFixture) -> None:
    from classaug_ros.engines.trt import logger, trt

    with caplog.at_level(logging.DEBUG), logger().quiet():
        logger().log(trt.ILogger.Severity.WARNING, "a weight becomes subnormal")
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


@needs_rtx
def test_engines_are_built_and_loaded_one_at_a_time(model: Model) -> None:
    """What TensorRT logs does not tell whose it is."""
    from classaug_ros.engines.build import Building, build
    from classaug_ros.engines.trt import ALONE, load

    device, errors = torch.device("cpu"), list[EngineError]()

    def load_nothing() -> None:
        try:
            load(model, b"no engine", device)
        except EngineError as error:
            errors.append(error)

    threads = [
        threading.Thread(target=load_nothing),
        threading.Thread(target=build, args=(model, BuildOptions(), device, Building())),
    ]
    with ALONE:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.3)
        assert [thread.is_alive() for thread in threads] == [True, True]
        assert errors == []
    for thread in threads:
        thread.join()
    assert len(errors) == 1


def test_a_module_that_tensorrt_itself_lacks_is_named(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TensorRT-RTX does not take its place."""
    from classaug_ros.engines import _tensorrt_engine

    (tmp_path / "tensorrt.py").write_text("import tensorrt_of_no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.delitem(sys.modules, "classaug_ros.engines.trt", raising=False)
    monkeypatch.delattr("classaug_ros.engines.trt", raising=False)
    with pytest.raises(EngineError, match="there is no Python module 'tensorrt_of_no_such_name' here, which TensorRT"):
        _tensorrt_engine(model, DEVICE, BuildOptions(), no_log)


def test_a_module_of_ours_that_is_missing_is_a_defect(model: Model) -> None:
    with pytest.raises(ModuleNotFoundError), needs(model, "it"):
        importlib.import_module("classaug_ros.no_such_module")


@needs_rtx
@without_gpu
def test_a_real_engine_is_refused_where_there_is_no_gpu(model: Model) -> None:
    from classaug_ros.engines.build import Building, build
    from classaug_ros.engines.trt import load

    device = torch.device("cpu")
    plan = build(model, BuildOptions(), device, Building())
    with pytest.raises(EngineError, match=rf"^{model.path}: tensorrt_rtx 1\.\S+ cannot load its engine: .*(CUDA|Cuda)"):
        load(model, plan, device)


# Binding and running, on stand-ins


class Kind:
    """What TensorRT's enumerations of types are like."""

    def __init__(self, name: str) -> None:
        self.name = name


class StandInEngine:
    """What ``ICudaEngine`` is like: ``tensors`` are name, whether it is an input, type and shape, free sizes -1."""

    def __init__(self, *tensors: tuple[str, bool, str, tuple[int, ...]], output: Any = None) -> None:
        self._tensors = {name: (given, kind, shape) for name, given, kind, shape in tensors}
        self._names = list(self._tensors)
        self.num_io_tensors = len(tensors)
        self.output = output  # the shape that is inferred, if another
        self.contexts: list[StandInContext] = []
        self.refuses = ""

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Any:
        from classaug_ros.engines.trt import trt

        return trt.TensorIOMode.INPUT if self._tensors[name][0] else trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Kind:
        return Kind(self._tensors[name][1])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name][2]

    def create_execution_context(self) -> StandInContext | None:
        if self.refuses == "context":
            return None
        self.contexts.append(StandInContext(self))
        return self.contexts[-1]


class StandInContext:
    """What ``IExecutionContext`` is like, and as strict."""

    def __init__(self, engine: StandInEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.ran: list[int] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        declared = self.engine.get_tensor_shape(name)
        self.shapes[name] = shape
        return len(shape) == len(declared) and all(
            have in {-1, want} for have, want in zip(declared, shape, strict=True)
        )

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert type(memory) is int
        self.addresses[name] = memory
        return name in self.engine._tensors

    def infer_shapes(self) -> list[str]:
        return [name for name, (given, *_) in self.engine._tensors.items() if given and name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = self.shapes["image"][0]
        declared = self.engine.output or self.engine.get_tensor_shape(name)
        return tuple(batch if size == -1 and not place else size for place, size in enumerate(declared))

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert type(stream_handle) is int
        assert set(self.addresses) == set(self.engine._tensors)
        self.ran.append(stream_handle)
        return self.engine.refuses != "run"


class Stream:
    """What a torch stream has that TensorRT wants."""

    cuda_stream = 77


IMAGE = ("image", True, "FLOAT", (-1, 3, *SIZE))
RESULT = ("result", False, "FLOAT", (-1, 4, *SIZE))
DEVICE = torch.device("cpu")


def engine_of(model: Model, stand_in: StandInEngine) -> Any:
    pytest.importorskip("tensorrt_rtx")
    from classaug_ros.engines.trt import TensorRTEngine

    return TensorRTEngine(model, object(), stand_in, DEVICE)


def aligned(*shape: int, dtype: Any = torch.float32) -> torch.Tensor:
    """A tensor at a multiple of 256 bytes, as the GPU's are."""
    size = int(np.prod(shape)) * torch.empty((), dtype=dtype).element_size()
    memory = torch.zeros(size + 256, dtype=torch.uint8)
    start = -memory.data_ptr() % 256
    return memory[start : start + size].view(dtype).view(shape)


@needs_rtx
@pytest.mark.parametrize(("kind", "dtype"), [("FLOAT", torch.float32), ("HALF", torch.float16)])
def test_an_engine_runs_on_the_tensors_it_was_bound_to(kind: str, dtype: Any, model: Model) -> None:
    """Each frame in a context of its own; outputs nobody asked for get a place, too."""
    stand_in = StandInEngine(IMAGE, ("more", False, "INT64", (-1, 5)), ("result", False, kind, (-1, 4, *SIZE)))
    engine = engine_of(model, stand_in)
    assert [(port.name, port.shape) for port in engine.inputs] == [("image", (None, 3, *SIZE))]
    images = [aligned(batch, 3, *SIZE) for batch in (1, 3)]
    contexts = [engine.bind(image) for image in images]
    outputs = [context.enqueue(Stream()) for context in contexts]
    assert outputs[1] is contexts[1].enqueue(Stream())
    assert [(tuple(output.shape), output.dtype) for output in outputs] == [
        ((1, 4, *SIZE), dtype),
        ((3, 4, *SIZE), dtype),
    ]
    for image, output, context in zip(images, outputs, stand_in.contexts, strict=True):
        assert context.shapes == {"image": tuple(image.shape)}
        assert (context.addresses["image"], context.addresses["result"]) == (image.data_ptr(), output.data_ptr())
    assert [context.ran for context in stand_in.contexts] == [[77], [77, 77]]
    engine.close()
    engine.close()
    contexts[0].enqueue(Stream())  # what is bound is kept


@needs_rtx
@pytest.mark.parametrize("refuses", ["context", "run"])
def test_what_tensorrt_refuses_is_an_error(refuses: str, model: Model) -> None:
    stand_in = StandInEngine(IMAGE, RESULT)
    stand_in.refuses = refuses
    engine = engine_of(model, stand_in)
    with pytest.raises(EngineError, match=rf"^{model.path}: tensorrt_rtx \S+ failed: it does not say why"):
        engine.bind(aligned(1, 3, *SIZE)).enqueue(Stream())


@needs_rtx
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (aligned(1, 3, 8, 15), "expected input float32 N x 3 x 8 x 16, found float32 1 x 3 x 8 x 15"),
        (aligned(3, 8, 16), "expected input float32 N x 3 x 8 x 16, found float32 3 x 8 x 16"),
        (aligned(1, 3, 8, 16).half(), "expected input float32 N x 3 x 8 x 16, found float16 1 x 3 x 8 x 16"),
        (aligned(1, 3, 16, 8).mT, "expected a contiguous tensor on cpu at a multiple of 256 bytes"),
        (aligned(400)[1:385].view(1, 3, 8, 16), "expected a contiguous tensor on cpu at a multiple of 256 bytes"),
        (torch.empty(1, 3, 8, 16, device="meta"), "expected a contiguous tensor on cpu at a multiple of 256 bytes"),
    ],
    ids=["size", "no batch", "type", "strides", "address", "device"],
)
def test_a_tensor_that_does_not_fit_is_refused(image: torch.Tensor, message: str, model: Model) -> None:
    with pytest.raises(EngineError, match=rf"^{model.path}: {message}$"):
        engine_of(model, StandInEngine(IMAGE, RESULT)).bind(image)


@needs_rtx
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([("images", *IMAGE[1:]), RESULT], "its inputs are 'images', the card says 'image'; correct the card"),
        ([IMAGE, ("x", True, "FLOAT", (1,)), RESULT], "its inputs are 'image', 'x', the card says 'image'"),
        ([("image", True, "HALF", IMAGE[3]), RESULT], "input 'image' is float16 N x 3 x 8 x 16, the card says float32"),
        ([IMAGE, ("logits", *RESULT[1:])], "its outputs are 'logits', the card says 'result'"),
        (
            [IMAGE, (*RESULT[:3], (-1, 5, *SIZE))],
            r"output 'result' is N x 5 x 8 x 16, the card says 1 x 4 x 8 x 16 \(4 c",
        ),
        (
            [("image", True, "FLOAT", (2, 3, *SIZE)), (*RESULT[:3], (1, 4, *SIZE))],
            "output 'result' is 1 x 4 .* says 2 x 4",
        ),
    ],
)
def test_an_engine_that_is_not_what_the_card_says_is_refused(tensors: Any, message: str, model: Model) -> None:
    with pytest.raises(EngineError, match=f"^{model.path}: {message}"):
        engine_of(model, StandInEngine(*tensors))


@needs_rtx
@pytest.mark.parametrize(
    ("kind", "inferred", "message"),
    [
        (
            "FLOAT",
            (-1, 4, 4, 4),
            r"output 'result' has shape \(1, 4, 4, 4\), the model card says \(1, 4, 8, 16\); correct",
        ),
        ("FLOAT", (-1, 4, 8, -1), r"output 'result' is float32 \(1, 4, 8, -1\), expected a tensor whose size is known"),
        ("FP8", (-1, 4, 8, 16), r"output 'result' is fp8 \(1, 4, 8, 16\), expected a tensor whose size is known"),
        ("INT32", (-1, 4, 8, 16), "output 'result' is int32, scores are float32 or float16; correct the card's `kind`"),
    ],
)
def test_an_output_that_is_not_what_the_card_says_is_refused(
    kind: str, inferred: tuple[int, ...], message: str, model: Model
) -> None:
    stand_in = StandInEngine(IMAGE, ("result", False, kind, (-1, 4, -1, -1)), output=inferred)
    with pytest.raises((EngineError, OutputError), match=f"^{model.path}: {message}"):
        engine_of(model, stand_in).bind(aligned(1, 3, *SIZE))


# Engines given as models


@pytest.fixture
def given(tmp_path: Path) -> Model:
    """An engine file that says it was built on another machine; what is in it is never looked at."""
    folder = write_model(tmp_path / "given", CLASSES, SIZE)
    onnx = load_model(folder)
    (folder / "model.onnx").unlink()
    path = folder / "model.engine"
    path.write_bytes(b"an engine")
    digest = hashlib.sha256(b"an engine").hexdigest()
    made = EngineManifest("net.onnx", onnx.fingerprint, onnx.card.fingerprint, BuildOptions(), MACHINE, digest)
    manifest_path(path).write_bytes(made.text())
    return load_model(folder)


MACHINE = Machine("tensorrt 10.3.0", "NVIDIA X", "8.7")


@pytest.mark.parametrize(
    ("here", "reason"),
    [
        (Machine("tensorrt 10.13.0", "NVIDIA X", "8.7"), "it was built by tensorrt 10.3.0, here is tensorrt 10.13.0"),
        (
            Machine("tensorrt_rtx 10.3.0", "NVIDIA X", "8.7"),
            "it was built by tensorrt 10.3.0, here is tensorrt_rtx 10.3",
        ),
        (
            Machine("tensorrt 10.3.0", "NVIDIA Y", "8.9"),
            "it was built for an NVIDIA X of compute capability 8.7, here is an NVIDIA Y of compute capability 8.9",
        ),
    ],
    ids=["version", "flavour", "gpu"],
)
def test_an_engine_of_another_machine_is_refused(here: Machine, reason: str, given: Model) -> None:
    from classaug_ros.engines import _given

    with pytest.raises(
        EngineError, match=rf"^{given.path}: {reason}.*; build it again by `classaug build-engine` from 'n"
    ):
        _given(given, here)
    assert _given(given, MACHINE) == b"an engine"


def test_an_engine_that_changed_since_it_was_found_is_refused(given: Model) -> None:
    from classaug_ros.engines import _given

    given.path.write_bytes(b"another engine")
    with pytest.raises(EngineError, match=r"has changed since it was checked; build it again"):
        _given(given, MACHINE)


def test_an_engine_runs_on_no_cpu(given: Model) -> None:
    with pytest.raises(EngineError, match=r"a TensorRT engine runs on a GPU only; use device cuda, or the ONNX model$"):
        load_engine(given, 1)
    with pytest.raises(EngineError, match=r"device cpu takes no TensorRT engine; use a \.pt2, or device cuda$"):
        load_device_engine(given, "cpu", BuildOptions(), no_log)


# Devices


@without_gpu
@pytest.mark.parametrize(
    ("name", "otherwise"),
    [("a.onnx", "use device cpu"), ("a.pt2", "use device cpu"), ("a.engine", "use the ONNX model, on the CPU")],
)
def test_without_a_gpu_nothing_is_loaded(name: str, otherwise: str, tmp_path: Path) -> None:
    """Not even the file is looked at."""
    missing = Model(tmp_path / name, None, "")  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=rf"^device cuda: no CUDA device can be used here \(.+\); {otherwise}$"):
        load_device_engine(missing, "cuda", BuildOptions(), no_log)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:1", "CUDA", "", "cpu:0", "cuda:0\n", "mps"])
def test_devices_that_are_none_are_refused(device: str, model: Model) -> None:
    message = rf"^device {re.escape(repr(device))}: expected cpu or cuda; of several GPUs CUDA_VISIBLE_DEVICES chooses$"
    with pytest.raises(EngineError, match=message):
        load_device_engine(model, device, BuildOptions(), no_log)


def test_what_torch_calls_the_gpu_is_taken_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a PyTorch with CUDA has it."""
    from classaug_ros.engines.device import torch_device

    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    device = torch_device("cuda")
    assert device == torch_device(str(device)) == torch.device("cuda", 0)


@pytest.mark.parametrize("problem", ["no compiler", "no headers"])
def test_a_gpu_that_triton_cannot_compile_for_is_refused(problem: str, tmp_path: Path) -> None:
    """Triton's own, which is told that there is a GPU, and finds no compiler, or one that fails."""
    pytest.importorskip("triton")
    program = """
import torch
torch.cuda.is_available = lambda: True
from triton.backends.nvidia import driver
driver.library_dirs = list
driver.CudaDriver.is_active = staticmethod(lambda: True)
from classaug_ros.engines.device import check_triton
try:
    check_triton()
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""
    environment = {"PATH": str(tmp_path), "TRITON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(PROJECT)}
    if problem == "no headers":
        environment["CC"] = "false"
        environment["PATH"] = os.environ["PATH"]
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (line,) = ran.stdout.splitlines()
    assert line.startswith("EngineError: Triton cannot compile for this GPU: ")
    assert line.endswith("; install gcc and python3-dev")
    assert ("C compiler" if problem == "no compiler" else "returned non-zero exit status") in line


def test_why_there_is_no_gpu_is_told_in_short(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a PyTorch with CUDA has it."""

    def init() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system. Please check that you have one.\nmore")

    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(EngineError, match=r"here \(Found no NVIDIA driver on your system\); use device cpu$"):
        load_device_engine(model, "cuda", BuildOptions(), no_log)


def test_without_torch_one_line_says_what_to_install(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "classaug_ros.engines.device", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    message = r"there is no Python module 'torch' here, which PyTorch needs: pip install 'classaug_ros\[gpu\]' \("
    with pytest.raises(EngineError, match=message):
        load_device_engine(model, "cuda", BuildOptions(), no_log)


def test_a_library_that_tensorrt_lacks_is_named(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where its Python module is installed without its libraries."""
    from classaug_ros.engines import _tensorrt_engine

    (tmp_path / "tensorrt.py").write_text(
        "raise ImportError('libnvinfer.so.10: cannot open shared object file\\nmore')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "classaug_ros.engines.trt", raising=False)
    monkeypatch.delattr("classaug_ros.engines.trt", raising=False)
    with pytest.raises(
        EngineError, match=r"TensorRT cannot be loaded: libnvinfer\.so\.10: cannot open shared object file$"
    ):
        _tensorrt_engine(model, DEVICE, BuildOptions(), no_log)
