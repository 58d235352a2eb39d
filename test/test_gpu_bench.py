"""The measurements of the GPU path, by the clock and in Triton's interpreter, and the script for a machine with a GPU.

Events and CUDA graphs need CUDA: they are not run here. How fast anything is, no test says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `gpu`")
pytest.importorskip("triton", reason="needs the extra `gpu`")

from support.tinymodels import World, random_rules  # noqa: E402
from support.tinyprograms import models_of, write_programs  # noqa: E402

from classaug_ros.benchmark import gpu, throughput  # noqa: E402
from classaug_ros.benchmark.gpu_stages import Stages  # noqa: E402
from classaug_ros.benchmark.steps import synthetic_frames  # noqa: E402
from classaug_ros.benchmark.torchfusion import TorchWork  # noqa: E402
from classaug_ros.cli import main  # noqa: E402
from classaug_ros.engines import BuildOptions, load_device_engine  # noqa: E402
from classaug_ros.errors import EngineError  # noqa: E402
from classaug_ros.pipeline.gpu_options import GpuOptions  # noqa: E402
from classaug_ros.rules import Rules  # noqa: E402

SCRIPTS = Path(__file__).resolve().parents[1] / "bench"
SIZE = (9, 20)
CONTENTS = ("", ", large areas", ", noise")

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_programs(tmp_path_factory.mktemp("bench") / "world", (12, 10))


@pytest.fixture(scope="module")
def rules(world: World) -> Rules:
    """Rules of both kinds."""
    return random_rules(*models_of(world), world.task, kind="probability")


@pytest.fixture(scope="module")
def measured(world: World, rules: Rules) -> dict[str, Any]:
    return gpu.bench(models_of(world), rules, synthetic_frames(SIZE), 1, "cpu", throughput.COMBINATIONS[:2])


def test_every_part_of_a_frame_is_measured_and_told(measured: dict[str, Any]) -> None:
    assert json.loads(json.dumps(measured)) == measured
    fusion = {f"fusion, {kind}{content}" for kind in ("table", "probability") for content in CONTENTS}
    assert measured["stages"].keys() == {"upload", "preprocess", "main engine", "sub engine", "download"} | fusion
    both = {f"engines {how}" for how in ("at once", "one after the other")}
    assert measured["engines"].keys() == {
        f"{name}{how}" for name in both for how in ("", ", no graph", ", on the device")
    }
    times = [*measured["stages"].values(), *measured["engines"].values(), *measured["operations"]["times"].values()]
    assert all(0 < each["p50"] <= each["p95"] <= each["p99"] for each in times)
    assert measured["bytes"] == {"upload": SIZE[0] * SIZE[1] * 3, "download": SIZE[0] * SIZE[1] * (1 + 3) + 4}
    assert [each["how"] for each in measured["frames"]] == [
        *("CUDA graph, at once, 1 in flight", "CUDA graph, at once, 2 in flight")
    ]
    assert all(0 < each["staging_ms"]["p50"] < each["latency_ms"]["p50"] for each in measured["frames"])
    assert measured["failed"] == {}
    told = gpu.to_text(measured)
    assert all(name in told for name in (*measured["stages"], *measured["engines"], *measured["figures"]))
    assert all(value in told for value in measured["machine"].values())


def test_figures_are_those_of_the_medians(measured: dict[str, Any]) -> None:
    median = {name: each["p50"] for name, each in {**measured["stages"], **measured["engines"]}.items()}
    times = {name: each["p50"] for name, each in measured["operations"]["times"].items()}
    speed = {way: 1000 * measured["bytes"][way] / median[way] for way in ("upload", "download")}
    latency, staging = (measured["frames"][0][f"{what}_ms"]["p50"] for what in ("latency", "staging"))
    kernels = median["preprocess"] + median["fusion, table"]
    operations = times["preprocess, PyTorch"] + times["fusion, PyTorch"]
    serial, at_once = median["engines one after the other"], median["engines at once"]
    assert measured["figures"] == pytest.approx(
        {
            "both kernels, ms": kernels,
            "engines one after the other / at once": serial / at_once,
            "upload: share of the measured bandwidth": speed["upload"] / measured["copies"]["upload"],
            "download: share of the measured bandwidth": speed["download"] / measured["copies"]["download"],
            "PyTorch / kernels, launched one by one": operations
            / (times["preprocess, kernel"] + times["fusion, kernel"]),
            "PyTorch one by one / kernels in graphs": operations / kernels,
            "frame / engines at once in a graph": latency / at_once,
            "frame from pinned memory / engines at once in a graph": (latency - staging) / at_once,
        }
    )


def test_pytorch_s_operations_do_the_same_work(measured: dict[str, Any], world: World, rules: Rules) -> None:
    operations = measured["operations"]
    assert operations["share of labels that differ"] == operations["share of overlay values that differ"] == 0
    models, (frame, *_) = models_of(world), synthetic_frames(SIZE)
    cards = [model.card for model in models]
    device = torch.device("cpu")
    engines = [load_device_engine(model, "cpu", BuildOptions(), print) for model in models]
    stages = Stages(cards, engines, device, frame, gpu.config_of(rules, "table"), gpu.WANTED)
    images = TorchWork(cards[0], cards[1], rules, SIZE, gpu.ALPHA, device).prepare(torch.from_numpy(frame.rgb()[None]))
    for image, expected in zip(images, stages.images, strict=True):
        np.testing.assert_allclose(image, expected, atol=1e-3)


def test_work_that_pytorch_has_no_form_for_is_left_out(world: World, rules: Rules) -> None:
    card = models_of(world)[0].card
    other = replace(card, output=replace(card.output, upsample="asymmetric"))
    with pytest.raises(ValueError, match="asymmetric"):
        TorchWork(card, other, rules, SIZE, 0.5, torch.device("cpu"))


def test_a_way_to_run_frames_that_fails_leaves_the_others_their_figures(
    world: World, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(models: object, device: object, options: GpuOptions, *_: object) -> dict[str, Any]:
        if options.concurrent:
            raise EngineError("no memory")
        return whole(models, device, options, *_)  # type: ignore[arg-type]

    whole = throughput.whole_frames
    monkeypatch.setattr(gpu, "whole_frames", failing)
    stages = {name: {"p50": 1.0, "p95": 1.0, "p99": 1.0} for name in (*gpu.KERNELS, "upload", "download")}
    monkeypatch.setattr(gpu, "_stages", lambda *_: stages)
    ways = GpuOptions(frames_in_flight=1), GpuOptions(concurrent=False)
    result = gpu.bench(models_of(world), rules, synthetic_frames(SIZE), 1, "cpu", ways)
    assert result["failed"] == {"CUDA graph, at once, 1 in flight": "no memory"}
    assert [each["how"] for each in result["frames"]] == ["CUDA graph, serial, 2 in flight"]
    assert "frame / engines at once in a graph" not in result["figures"]
    assert "| CUDA graph, at once, 1 in flight | no memory |" in gpu.to_text(result)


@without_gpu
def test_without_a_gpu_the_command_says_so_in_one_line(
    world: World, rules: Rules, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules.save(tmp_path / "rules.yaml")
    command = ["bench", "--main", str(world.main), "--sub", str(world.sub), "--rules", str(tmp_path / "rules.yaml")]
    assert main([*command, "--device", "cuda"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("classaug bench: device cuda: ")
    assert said.count("\n") == 1
    assert main([*command, "--device", "cuda", "--node"]) == 2
    assert "leave one of them out" in capsys.readouterr().err


def run_script(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Interpreted or not, it decides by itself.
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    variables = {**kept, "PYTHON": sys.executable, "OUT": str(tmp_path / "out"), **environment}
    command = ["bash", str(SCRIPTS / "gpu.sh"), *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@without_gpu
def test_without_a_gpu_the_script_says_so_in_one_line(tmp_path: Path) -> None:
    done = run_script(tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("gpu.sh: device cuda: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--device", "cpu"], {}, "add --small"),
        ([], {"PYTHON": "no-python"}, "gpu.sh: there is no 'no-python'"),
        (["--only", "nothing"], {}, "invalid choice: 'nothing'"),
    ],
    ids=["interpreted at full size", "no Python", "no step"],
)
def test_what_the_script_cannot_do_is_refused(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    done = run_script(tmp_path, *arguments, **environment)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.slow
def test_the_script_keeps_what_it_finds_and_ends_with_a_table(tmp_path: Path) -> None:
    done = run_script(tmp_path, "--device", "cpu", "--small", "--only", "kernels", "tensorrt")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert list(result["steps"]) == ["machine", "kernels", "tensorrt"]
    assert all(case["equal"] for case in result["steps"]["kernels"]["cases"])
    assert [row["verdict"] for row in result["table"]] == ["reported", "PASS", "not run"]
    *_, last, _, end = done.stdout.rstrip().splitlines()
    assert last == "| tensorrt | engines run on a GPU only |  | not run |"
    assert end.endswith("gpu.json")


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script's module that judges."""
    monkeypatch.syspath_prepend(SCRIPTS)
    import verdicts

    return verdicts


@pytest.mark.parametrize(("kernels", "verdict"), [(0.099, "PASS"), (0.101, "FAIL")])
def test_figures_are_judged_by_their_bounds(
    verdicts: Any, measured: dict[str, Any], kernels: float, verdict: str
) -> None:
    found = {**measured, "figures": {**measured["figures"], "both kernels, ms": kernels}}
    (row,) = (row for row in verdicts.rows({"bench": found}, timed=True) if row["what"] == "both kernels together")
    assert row == {
        "what": "both kernels together",
        "found": f"{kernels} ms",
        "bound": "at most 0.10 ms",
        "verdict": verdict,
    }
    assert {row["verdict"] for row in verdicts.rows({"bench": found}, timed=False)} == {"not judged"}


def test_a_step_that_fails_is_told_beside_the_others(verdicts: Any) -> None:
    grown = {"frames": 8, "wanted": 9, "process": [1, 1], "allocated": [5, 5], "reserved": [5, 6], "device": [0, 2**22]}
    steps = {"bench": {"failed": "it took more than 150 s"}, "memory": grown, "tensorrt": {"not run": "none here"}}
    assert [row["verdict"] for row in verdicts.rows(steps, timed=True)] == [
        *("FAIL", "not run", "PASS", "FAIL", "PASS", "reported", "not run")
    ]
    assert "| bench | it took more than 150 s |  | FAIL |" in verdicts.to_text(verdicts.rows(steps, timed=True))
