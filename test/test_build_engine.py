"""Building engines, for real, by TensorRT-RTX, which needs no GPU for it: what they are built from, and when again."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import stat
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from numpy.typing import NDArray
from support.programs import program
from support.tinymodels import Weights, tiny_model, write_classes, write_model

from classaug_ros.cli import main as classaug
from classaug_ros.errors import ConfigError, EngineError
from classaug_ros.models.card import Model, load_model
from classaug_ros.models.engine_manifest import BuildOptions, EngineManifest, Machine, manifest_path

torch = pytest.importorskip("torch")

PROJECT = Path(__file__).resolve().parents[1]
DEMO = PROJECT / "demo/models"
SHARED = PROJECT.parent / "shared/models"
LARGE = [SHARED / name for name in ("ade20k31", "cityscapes19", "voc21")]
REAL = [DEMO / "main", DEMO / "sub", *(pytest.param(folder, marks=pytest.mark.slow) for folder in LARGE)]
CLASSES = ("a", "b", "c", "d")
SIZE = (8, 16)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return tiny_model(tmp_path / "net", CLASSES, SIZE)


@pytest.fixture
def find_or_build() -> Callable[..., tuple[Path, bytes]]:
    """``find_or_build`` for no GPU."""
    pytest.importorskip("tensorrt_rtx")
    from classaug_ros.engines.build import find_or_build
    from classaug_ros.engines.trt import trt

    if trt.__name__ != "tensorrt_rtx":
        pytest.skip("TensorRT builds for the GPU there is only")

    def run(model: Model, path: Path, *log: Any, **options: Any) -> tuple[Path, bytes]:
        wanted = options.pop("options", BuildOptions())
        return find_or_build(model, wanted, torch.device("cpu"), *(log or (_no_log,)), path=path, **options)

    return run


def _no_log(_: str) -> None:
    pass


def images(model: Model, count: int) -> NDArray[np.float32]:
    """Inputs of noise, as the card says they are made."""
    spec = model.card.input
    random = np.random.default_rng(5).integers(0, 256, (count, 3, spec.height, spec.width))
    channels = (1, 3, 1, 1)
    return np.asarray((random - np.reshape(spec.mean, channels)) * np.reshape(spec.scale, channels), np.float32)


def output(model: Model, graph: bytes | Path, inputs: NDArray[np.float32]) -> NDArray[Any]:
    """The output of an ONNX model."""
    session = onnxruntime.InferenceSession(graph if isinstance(graph, bytes) else str(graph))
    result: NDArray[Any] = session.run([model.card.output.name], {model.card.input.name: inputs})[0]
    return result


def real(folder: Path) -> Model:
    if not folder.exists():
        pytest.skip("the shared models are not here")
    return load_model(folder)


@pytest.mark.parametrize("folder", REAL, ids=lambda path: path.name)
def test_real_models_become_engines(
    folder: Path, tmp_path: Path, find_or_build: Callable[..., tuple[Path, bytes]]
) -> None:
    model, sizes = real(folder), {}
    for precision in ("fp16", "fp32"):
        path, plan = find_or_build(model, tmp_path / f"{precision}.engine", options=BuildOptions(precision, (1, 2, 4)))
        assert path.read_bytes() == plan
        sizes[precision] = len(plan)
    assert sizes["fp16"] < sizes["fp32"]


@pytest.mark.parametrize("folder", REAL, ids=lambda path: path.name)
def test_in_fp16_a_model_says_the_same(folder: Path) -> None:
    from classaug_ros.engines.network import network

    model = real(folder)
    graph = network(model, BuildOptions("fp16"))
    inputs = images(model, 1)
    exact, rounded = output(model, model.path, inputs), output(model, graph, inputs)
    assert [str(each.dtype) for each in (exact, rounded)] == ["float32", "float32"]
    assert (exact.argmax(axis=1) == rounded.argmax(axis=1)).mean() > 0.99
    proto = onnx.load_from_string(graph)
    weights = [constant for constant in proto.graph.initializer if len(constant.dims) == 4]
    assert weights
    assert {constant.data_type for constant in weights} == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize(
    ("dynamic", "batch", "shape"),
    [
        (True, (1, 1, 1), [1, 3, *SIZE]),
        (True, (3, 3, 3), [3, 3, *SIZE]),
        (True, (1, 2, 4), ["N", 3, *SIZE]),
        (False, (1, 1, 1), [1, 3, *SIZE]),
        (False, (1, 2, 4), ["N", 3, *SIZE]),
    ],
)
@pytest.mark.parametrize("kind", ["logits", "probabilities", "labels"])
def test_the_network_is_of_the_card_s_size_and_the_batch_wanted(
    kind: str, dynamic: bool, batch: tuple[int, int, int], shape: list[Any], tmp_path: Path
) -> None:
    from classaug_ros.engines.network import network

    model = tiny_model(tmp_path / "net", CLASSES, SIZE, kind=kind, dynamic=dynamic)
    graph = network(model, BuildOptions("fp32", batch))
    dims = onnx.load_from_string(graph).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == shape
    inputs = images(model, batch[2])
    alone = [output(model, model.path, inputs[number : number + 1]) for number in range(batch[2])]
    np.testing.assert_array_equal(output(model, graph, inputs), np.concatenate(alone))


def reshaping(folder: Path, *shapes: tuple[int, ...], nodes: bool = False) -> Model:
    """A model for one image at a time that reshapes its scores on the way out, to constants that may be nodes."""
    write_model(folder, CLASSES, SIZE, weights=Weights.random(4, 1))
    file = folder / "model.onnx"
    proto = onnx.load(file)
    (last,) = (node for node in proto.graph.node if "result" in node.output)
    before = last.input[0]
    proto.graph.node.remove(last)
    for number, shape in enumerate(shapes):
        name, after = f"shape{number}", "result" if number == len(shapes) - 1 else f"reshaped{number}"
        constant = onnx.numpy_helper.from_array(np.array(shape, np.int64), name)
        if nodes:
            proto.graph.node.append(onnx.helper.make_node("Constant", [], [name], value=constant))
        else:
            proto.graph.initializer.append(constant)
        proto.graph.node.append(onnx.helper.make_node("Reshape", [before, name], [after]))
        before = after
    onnx.save(proto, file)
    return load_model(folder)


@pytest.mark.parametrize("nodes", [False, True], ids=["initializers", "nodes"])
def test_a_batch_that_is_written_into_reshapes_is_freed(nodes: bool, tmp_path: Path) -> None:
    from classaug_ros.engines.network import network

    model = reshaping(tmp_path / "net", (1, 4, -1), (1, 4, *SIZE), nodes=nodes)
    graph = network(model, BuildOptions("fp32", (1, 1, 3)))
    inputs = images(model, 3)
    alone = [output(model, model.path, inputs[number : number + 1]) for number in range(3)]
    np.testing.assert_array_equal(output(model, graph, inputs), np.concatenate(alone))


def averaging(folder: Path) -> Model:
    """A model for one image at a time whose scores are less the average of all images in the batch."""
    write_model(folder, CLASSES, SIZE, weights=Weights.random(4, 1))
    proto = onnx.load(folder / "model.onnx")
    proto.graph.node[-1].CopyFrom(onnx.helper.make_node("Sub", ["scores", "average"], ["result"]))
    proto.graph.node.insert(1, onnx.helper.make_node("ReduceMean", ["scores"], ["average"], axes=[0]))
    onnx.save(proto, folder / "model.onnx")
    return load_model(folder)


@pytest.mark.parametrize("case", ["fails", "mixes images"])
def test_a_batch_that_cannot_be_freed_is_refused(case: str, tmp_path: Path) -> None:
    from classaug_ros.engines.network import network

    folder = tmp_path / "net"
    model = averaging(folder) if case == "mixes images" else reshaping(folder, (4, -1), (1, 4, *SIZE))
    network(model, BuildOptions("fp32", (1, 1, 1)))
    with pytest.raises(EngineError) as refused:
        network(model, BuildOptions("fp32", (1, 1, 2)))
    assert str(refused.value) == (
        f"{model.path}: takes batches of 1, and cannot be changed to take others: export it with a free batch size, "
        "or leave the batch at 1 1 1"
    )


def test_a_model_that_is_not_what_its_card_says_is_refused(tmp_path: Path) -> None:
    from classaug_ros.engines.network import network

    model = tiny_model(tmp_path / "net", CLASSES, SIZE, card={"input.height": 9})
    with pytest.raises(
        EngineError, match=r"input 'image' is float32 1 x 3 x 8 x 16, the card says .*; correct the card"
    ):
        network(model, BuildOptions())


@pytest.mark.parametrize("batch", [(0, 1, 1), (2, 1, 3), (1, 3, 2), (1, 1, 65)])
def test_batches_out_of_order_are_refused(batch: tuple[int, int, int]) -> None:
    with pytest.raises(
        ConfigError, match=r"^batch \d+ \d+ \d+: expected least, best and most images at a time, 1 to 64"
    ):
        BuildOptions("fp16", batch)


# When an engine is used again


def test_an_engine_is_built_once(
    model: Model, tmp_path: Path, find_or_build: Callable[..., tuple[Path, bytes]]
) -> None:
    told: list[str] = []
    path = tmp_path / "out" / "a.engine"
    first = find_or_build(model, path, told.append)
    written = path.stat().st_mtime_ns
    second = find_or_build(model, path, told.append)
    assert first == second
    assert path.stat().st_mtime_ns == written
    assert told == [
        f"{model.path}: building the TensorRT engine {path}, which may take minutes: there is none yet",
        f"{model.path}: using the TensorRT engine {path}",
    ]
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.engine", "a.engine.yaml"]
    found = EngineManifest.load(manifest_path(path))
    assert (found.source, found.model, found.card) == ("model.onnx", model.fingerprint, model.card.fingerprint)
    assert found.machine.tensorrt.startswith("tensorrt_rtx 1.")
    assert (found.machine.gpu, found.machine.capability) == ("none", "none")


def change(path: Path, **entries: object) -> None:
    """Change entries of a manifest; None removes one."""
    found = yaml.safe_load(path.read_text()) | entries
    path.write_text(yaml.safe_dump({key: value for key, value in found.items() if value is not None}))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"model": "0" * 64}, "it was built from another model"),
        ({"card": "0" * 64}, "the model card has changed since"),
        ({"engine": "0" * 64}, "the file is not the one that was built, it is damaged or another"),
        ({"precision": "fp32"}, "it computes in fp32, not in fp16"),
        ({"batch": [1, 2, 4]}, "it is for batches of 1 2 4, not of 1 1 1"),
        ({"tensorrt": "tensorrt 10.3.0"}, r"it was built by tensorrt 10\.3\.0, here is tensorrt_rtx 1\."),
        (
            {"gpu": "NVIDIA X", "capability": "8.9"},
            "it was built for an NVIDIA X of compute capability 8.9, here is no GPU",
        ),
        ({"batch": [2, 1, 4]}, "a.engine.yaml: batch 2 1 4: expected least, best and most images at a time, 1 to 64"),
        ({"batch": [1, 2]}, "a.engine.yaml: batch: expected three numbers, found 2"),
        ({"gpu": None}, "a.engine.yaml: gpu: expected str, found no such key"),
        ({"note": "x"}, "a.engine.yaml: unknown key 'note'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_an_engine_of_which_anything_differs_is_built_again(
    entries: dict[str, Any],
    reason: str,
    model: Model,
    tmp_path: Path,
    find_or_build: Callable[..., tuple[Path, bytes]],
) -> None:
    told: list[str] = []
    path = tmp_path / "a.engine"
    find_or_build(model, path)
    right = manifest_path(path).read_bytes()
    change(manifest_path(path), **entries)
    find_or_build(model, path, told.append)
    assert len(told) == 1
    assert told[0].startswith(f"{model.path}: building the TensorRT engine {path}, which may take minutes: ")
    assert re.search(reason, told[0])
    rebuilt = yaml.safe_load(manifest_path(path).read_text())
    assert rebuilt | {"engine": ""} == yaml.safe_load(right) | {"engine": ""}


def test_an_engine_without_its_manifest_or_asked_for_anew_is_built_again(
    model: Model, tmp_path: Path, find_or_build: Callable[..., tuple[Path, bytes]]
) -> None:
    told: list[str] = []
    path = tmp_path / "a.engine"
    find_or_build(model, path)
    find_or_build(model, path, told.append, force=True)
    manifest_path(path).unlink()
    find_or_build(model, path, told.append)
    path.write_bytes(path.read_bytes()[:-1])
    find_or_build(model, path, told.append)
    assert [line.partition("minutes: ")[2] for line in told] == [
        "a new one is asked for",
        "it has no manifest that tells what it was built from",
        "the file is not the one that was built, it is damaged or another",
    ]


def test_a_changed_model_or_card_is_another(tmp_path: Path, find_or_build: Callable[..., tuple[Path, bytes]]) -> None:
    told: list[str] = []
    path = tmp_path / "a.engine"
    find_or_build(tiny_model(tmp_path / "net", CLASSES, SIZE, seed=1), path)
    find_or_build(tiny_model(tmp_path / "net", CLASSES, SIZE, seed=2), path, told.append)
    find_or_build(tiny_model(tmp_path / "net", CLASSES, SIZE, seed=2, upsample="asymmetric"), path, told.append)
    assert [line.partition("minutes: ")[2] for line in told] == [
        "it was built from another model",
        "the model card has changed since",
    ]


def test_an_engine_built_without_a_gpu_serves_any_but_not_another_version() -> None:
    built = EngineManifest("m", "m", "c", BuildOptions(), Machine("tensorrt_rtx 1.7"), "e")
    here = Machine("tensorrt_rtx 1.7", "NVIDIA X", "8.9")
    assert built.foreign(here) is None
    assert built.foreign(replace(here, tensorrt="tensorrt_rtx 1.8")) == (
        "it was built by tensorrt_rtx 1.7, here is tensorrt_rtx 1.8"
    )
    on_gpu = replace(built, machine=here)
    assert on_gpu.foreign(here) is None
    for other in (replace(here, gpu="NVIDIA Y"), replace(here, capability="9.0"), built.machine):
        assert str(on_gpu.foreign(other)).startswith("it was built for an NVIDIA X of compute capability 8.9, here is ")


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = EngineManifest(
        "mödel.onnx", "m", "c", BuildOptions("fp32", (1, 2, 3)), Machine("t 1", 'NVIDIA "X"', "9.0"), "e"
    )
    (tmp_path / "a.yaml").write_bytes(written.text())
    assert EngineManifest.load(tmp_path / "a.yaml") == written


# The cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "classaug_ros" / "engines"


def test_the_cache_holds_an_engine_for_each_model_and_way_to_build_it(
    cache: Path, tmp_path: Path, find_or_build: Callable[..., tuple[Path, bytes]]
) -> None:
    models = [tiny_model(tmp_path / "net", CLASSES, SIZE, seed=seed) for seed in (1, 2)]
    write_model(tmp_path / "net", CLASSES, SIZE, seed=1)  # the first again
    told: list[str] = []
    paths = [
        find_or_build(model, None, told.append, options=options)[0]
        for model, options in (
            (load_model(tmp_path / "net"), BuildOptions()),
            (models[0], BuildOptions("fp32")),
            (models[0], BuildOptions("fp16", (1, 1, 2))),
            (models[0], BuildOptions()),
        )
    ]
    assert len(set(paths)) == 3
    assert paths[3] == paths[0]
    assert ["using" in line for line in told] == [False, False, False, True]
    assert {path.parent for path in paths} == {cache}
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_a_cache_that_others_may_write_to_is_closed(cache: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from classaug_ros.engines.build import cache_folder

    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert cache_folder() == cache
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_cache_of_somebody_else_is_refused(cache: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from classaug_ros.engines.build import cache_folder

    cache.mkdir(parents=True)
    os.chown(cache, 65534, 65534)
    with pytest.raises(
        ConfigError, match=r"engines: belongs to another user, whose engines are not run; set XDG_CACHE"
    ):
        cache_folder()


def test_a_cache_that_cannot_be_made_is_one_line(cache: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from classaug_ros.engines.build import cache_folder

    cache.parents[1].write_text("a file")
    with pytest.raises(
        ConfigError, match=r"no folder for TensorRT engines can be made: (Not a directory|File exists)$"
    ):
        cache_folder()


def test_without_a_place_for_caches_it_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorrt_rtx")
    from classaug_ros.engines.build import cache_folder

    monkeypatch.setenv("HOME", str(tmp_path))
    for named in ("", "not/absolute"):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        assert cache_folder() == tmp_path / ".cache/classaug_ros/engines"


def test_an_engine_that_another_process_builds_is_waited_for(
    cache: Path, model: Model, find_or_build: Callable[..., tuple[Path, bytes]]
) -> None:
    path, _ = find_or_build(model, None)
    told: list[str] = []
    waiting = threading.Event()

    def log(line: str) -> None:
        told.append(line)
        waiting.set()

    with path.with_suffix(".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=find_or_build, args=(model, None, log))
        thread.start()
        assert waiting.wait(20)
        assert told == [f"{path}: another process is building it; waiting for it"]
    thread.join()
    assert told[1:] == [f"{model.path}: using the TensorRT engine {path}"]


# What goes wrong


def test_a_build_that_is_interrupted_ends_and_leaves_nothing(
    model: Model, tmp_path: Path, find_or_build: Callable[..., tuple[Path, bytes]]
) -> None:
    from classaug_ros.engines.build import Building

    interrupted = threading.Event()
    interrupted.set()
    with pytest.raises(KeyboardInterrupt):
        find_or_build(model, tmp_path / "out" / "a.engine", building=Building(interrupted=interrupted))
    assert not (tmp_path / "out").exists()


def test_a_model_that_changes_while_its_engine_is_built_makes_none(
    model: Model, tmp_path: Path, find_or_build: Callable[..., tuple[Path, bytes]]
) -> None:
    """The engine would be of a file that its manifest does not tell of."""

    def change_it(_: str) -> None:
        write_model(model.path.parent, CLASSES, SIZE, seed=9)

    with pytest.raises(EngineError, match=rf"^{model.path}: was changed while its engine was built; try again$"):
        find_or_build(model, tmp_path / "out" / "a.engine", change_it)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("cache")
def test_waiting_for_another_process_ends_at_the_first_ctrl_c(
    model: Model, find_or_build: Callable[..., tuple[Path, bytes]]
) -> None:
    from classaug_ros.engines.build import Building

    building = Building()
    path, _ = find_or_build(model, None)

    def log(line: str) -> None:
        assert "another process is building it" in line
        building.interrupted.set()

    with path.with_suffix(".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(KeyboardInterrupt):
            find_or_build(model, None, log, building=building)


def test_an_operator_that_tensorrt_lacks_is_named_in_one_line(
    tmp_path: Path, find_or_build: Callable[..., tuple[Path, bytes]], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path / "net", CLASSES, SIZE)
    proto = onnx.load(folder / "model.onnx")
    proto.graph.node[-1].CopyFrom(onnx.helper.make_node("Det", ["scores"], ["det"]))
    proto.graph.node.append(onnx.helper.make_node("Unsqueeze", ["det", "axes"], ["wide"]))
    proto.graph.node.append(onnx.helper.make_node("Add", ["scores", "wide"], ["result"]))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 3]), "axes"))
    proto.graph.node[0].attribute[0].ints[:] = [1, 1]
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 8
    proto.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 8
    onnx.save(proto, folder / "model.onnx")
    card = yaml.safe_load((folder / "model.yaml").read_text())
    card["input"]["width"] = card["output"]["width"] = 8
    (folder / "model.yaml").write_text(yaml.safe_dump(card))
    with pytest.raises(EngineError) as refused:
        find_or_build(load_model(folder), tmp_path / "a.engine", options=BuildOptions("fp32"))
    assert str(refused.value).startswith(f"{folder}/model.onnx: tensorrt_rtx 1.")
    assert "Det" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, find_or_build: Callable[..., tuple[Path, bytes]]) -> None:
    folder = write_model(tmp_path / "net", CLASSES, SIZE)
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError, match=rf"^{folder}/model\.onnx: ONNX Runtime cannot load it: "):
        find_or_build(load_model(folder), tmp_path / "a.engine")


# The command


def command(*arguments: object) -> int:
    pytest.importorskip("tensorrt_rtx")
    return classaug(["build-engine", *map(str, arguments)])


def test_the_command_writes_an_engine_that_is_a_model_of_its_own(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "made" / "fast.engine"
    assert command(model.path.parent, "--output", path, "--precision", "fp32", "--batch", 1, 2, 4) == 0
    assert re.fullmatch(rf"engine: {path} \([\d.]+ MB\)\n", capsys.readouterr().out)
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "classes.csv",
        "fast.engine",
        "fast.engine.yaml",
        "model.yaml",
    ]
    made = load_model(path.parent)
    assert (made.path, made.card, made.fingerprint) == (path, model.card, model.fingerprint)
    assert EngineManifest.load(manifest_path(path)).options == BuildOptions("fp32", (1, 2, 4))


def test_an_engine_beside_its_model_leaves_the_folder_s_model_what_it_was(model: Model) -> None:
    assert command(model.path, "--output", model.path.with_name("model.engine")) == 0
    assert load_model(model.path.parent) == model


def test_a_corrected_card_is_written_over_the_old_one_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "made" / "a.engine"
    assert command(tiny_model(tmp_path / "net", CLASSES, SIZE).path, "--output", path) == 0
    corrected = tiny_model(tmp_path / "net", CLASSES, SIZE, upsample="asymmetric")
    capsys.readouterr()
    assert "made/model.yaml: is another card than" in refusal(capsys, corrected.path, "--output", path)
    assert command(corrected.path, "--output", path, "--force") == 0
    made = load_model(path)
    assert (made.card, made.fingerprint) == (corrected.card, corrected.fingerprint)


def test_the_model_s_own_card_is_not_written_over(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_model(tmp_path / "other", CLASSES, SIZE, upsample="asymmetric") / "model.yaml"
    own = model.path.with_name("model.yaml")
    before = own.read_bytes()
    said = refusal(capsys, model.path, "--card", other, "--output", model.path.with_name("a.engine"), "--force")
    assert said.startswith(f"{own}: is another card than {other}; name a file in another folder")
    assert own.read_bytes() == before


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert command(*arguments) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    return said.err.removeprefix("classaug build-engine: ").strip()


@pytest.mark.skipif(torch.cuda.is_available(), reason="of machines without a GPU")
def test_without_a_gpu_the_command_wants_to_know_where(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, model.path) == (
        "there is no GPU here, so that the engine is for another machine: name its file by --output"
    )


def test_mistakes_of_the_command_are_one_line(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = tmp_path / "model.onnx"
    assert refusal(capsys, model.path, "--output", name) == f"{name}: expected a file ending in .engine"
    other = write_model(tmp_path / "other", CLASSES, SIZE, upsample="asymmetric")
    assert refusal(capsys, model.path, "--output", other / "a.engine") == (
        f"{other}/model.yaml: is another card than {model.path.parent}/model.yaml; name a file in another folder, or "
        "write over it by --force"
    )
    (other / "model.yaml").unlink()
    write_classes(other / "classes.csv", "xyz")
    assert refusal(capsys, model.path, "--output", other / "a.engine") == (
        f"{other}/classes.csv: are other classes than {model.path.parent}/classes.csv; name a file in another folder, "
        "or write over it by --force"
    )
    assert refusal(capsys, model.path, "--output", tmp_path / "a.engine", "--batch", 3, 2, 1).startswith(
        "batch 3 2 1: "
    )
    assert sorted(each.name for each in other.iterdir()) == ["classes.csv", "model.onnx"]


def test_an_engine_is_not_built_from_an_engine(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(model.path, "--output", tmp_path / "made" / "a.engine") == 0
    capsys.readouterr()
    again = refusal(capsys, tmp_path / "made", "--output", tmp_path / "b.engine")
    assert again == f"{tmp_path}/made/a.engine: expected an ONNX model, which engines are built from"


def test_a_card_with_its_classes_elsewhere_is_not_copied(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_classes(tmp_path / "far.csv", CLASSES)
    card = model.path.with_name("model.yaml")
    card.write_text(card.read_text().replace("classes.csv", "../far.csv"))
    assert refusal(capsys, model.path, "--output", tmp_path / "made" / "a.engine") == (
        f"{card}: has its classes in another folder; write a card of the engine to {tmp_path}/made/model.yaml first"
    )


def test_without_tensorrt_the_command_says_what_to_install(
    model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    for module in ("classaug_ros.engines.trt", "classaug_ros.engines.build"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    assert classaug(["build-engine", str(model.path), "--output", str(tmp_path / "a.engine")]) == 2
    assert capsys.readouterr().err == (
        f"classaug build-engine: {model.path}: there is no Python module 'tensorrt' or 'tensorrt_rtx' here, which "
        "building engines needs: on a Jetson install python3-libnvinfer, elsewhere pip install tensorrt; a .pt2 "
        "model needs neither\n"
    )


def test_ctrl_c_ends_the_command_and_leaves_nothing(tmp_path: Path) -> None:
    """While TensorRT builds, in a thread of its own making or ours, and before."""
    pytest.importorskip("tensorrt_rtx")
    path = tmp_path / "made" / "a.engine"
    command = [sys.executable, "-m", "classaug_ros.cli", "build-engine", DEMO / "main", "--output", path]
    with program(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "building the TensorRT engine" in process.stderr.readline()
        time.sleep(0.1)
        process.send_signal(2)
        rest = process.stderr.read()
    assert (process.returncode, rest) == (130, "classaug build-engine: interrupted\n")
    assert [each.name for each in (tmp_path / "made").iterdir()] == []


def test_on_a_terminal_a_bar_shows_how_far_it_is(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    program = [
        sys.executable,
        "-m",
        "classaug_ros.cli",
        "build-engine",
        DEMO / "main",
        "--output",
        tmp_path / "a.engine",
    ]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    subprocess.run([str(part) for part in program], stderr=theirs, stdout=subprocess.PIPE, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert re.search(r"\rbuild: +\d+%\|.*\| [1-9]\d*/\d+ ", shown)
    assert shown.rpartition("\r")[0].rpartition("\r")[2].strip() == ""  # the bar is taken away
