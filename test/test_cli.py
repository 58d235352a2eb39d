"""The command line: learn and evaluate end to end, exit statuses, and what an import costs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.tinymodels import World, write_dataset, write_world

from classaug_ros import __version__
from classaug_ros.cli import main as classaug
from classaug_ros.errors import ConfigError
from classaug_ros.learning.counts import Counts
from classaug_ros.rules import Rules
from classaug_ros.rules.task import Task

PROJECT = Path(__file__).resolve().parent.parent
COMMANDS = ("export", "card", "quantize", "build-engine", "learn", "inspect", "evaluate", "bench", "make-bag", "play")
BENCH = ("bench", "--main", "m", "--sub", "s", "--rules", "r")
HEAVY = {"numpy", "cv2", "numba", "onnxruntime", "yaml", "rclpy", "rosbags", "tqdm", "torch", "sensor_msgs"}


def program(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``python -m classaug_ros.cli`` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "classaug_ros.cli", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "200"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def learn(world: World, output: Path, *more: object) -> list[str]:
    options = ("--main", world.main, "--sub", world.sub, "--dataset", world.dataset, "--task", world.task)
    return ["learn", *map(str, (*options, "--output", output, *more))]


def scored(world: World, rules: Path, report: Path, *more: object) -> list[str]:
    options = ("--main", world.main, "--sub", world.sub, "--dataset", world.dataset, "--task", world.task)
    return ["evaluate", *map(str, (*options, "--rules", rules, "--report", report, *more))]


def test_from_data_to_report_with_paths_relative_to_where_one_is(world: World) -> None:
    files = ("--main", "main", "--sub", "sub/model.onnx", "--dataset", "drive/dataset.yaml", "--task", "task.yaml")
    made = program("learn", *files, "--output", "out/rules.yaml", "--threads", 2, cwd=world.folder)
    assert made.returncode == 0
    assert re.fullmatch(r"fitting the probability rule to \d+ pixels, which may take a minute\n", made.stderr)
    assert made.stdout.startswith(f"{len(world.images)} images, ")
    assert made.stdout.endswith("rules: out/rules.yaml\n")
    assert (world.folder / "out" / "rules.counts.npz").is_file()
    result = program(
        "evaluate",
        *files,
        "--rules",
        "out/rules.yaml",
        "--report",
        "out",
        "--save-labels",
        "--serial",
        cwd=world.folder,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("| mIoU %")
    assert result.stdout.endswith("report: out/report.html\n")
    report = json.loads((world.folder / "out" / "report.json").read_text())
    assert list(report["methods"]) == ["main_only", "sub_only", "table", "probability"]
    assert all(set(method["miou"]) == {"main", "added", "all"} for method in report["methods"].values())
    assert len(list((world.folder / "out" / "labels").glob("*.png"))) == len(world.images)


def ended(script: str, output: int | None = None, **environment: str) -> tuple[int, str]:
    """Run a shell script in which $C is the program; return its status and what it says on stderr."""
    result = subprocess.run(
        ["bash", "-c", script],
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "C": f"{sys.executable} -m classaug_ros.cli",
            "PYTHONUNBUFFERED": "",
            **environment,
        },
        stdout=subprocess.DEVNULL if output is None else output,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return result.returncode, result.stderr


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report folder, and rules.yaml in it."""
    made = write_world(tmp_path_factory.mktemp("reported"), images=2)
    rules = made.folder / "rules.yaml"
    assert classaug(learn(made, rules)) == 0
    assert classaug(scored(made, rules, made.folder)) == 0
    return made.folder


def test_output_that_nobody_reads_is_let_go_quietly(reported: Path) -> None:
    assert ended(f"$C inspect {reported}/rules.yaml | true; exit ${{PIPESTATUS[0]}}") == (141, "")


def test_output_that_cannot_be_written_is_one_line(reported: Path) -> None:
    status, said = ended(f"$C compare {reported} {reported} > /dev/full")
    assert (status, said) == (2, "classaug compare: standard output: No space left on device\n")


def test_a_last_line_that_cannot_be_written_is_told_too(reported: Path, tmp_path: Path) -> None:
    status, said = ended(f"$C make-bag {reported}/drive/images --output {tmp_path}/bag > /dev/full")
    assert (status, said) == (2, "classaug make-bag: standard output: No space left on device\n")


def test_output_in_characters_the_terminal_lacks_is_escaped(reported: Path) -> None:
    """Names of files and classes may be anything; the bytes of a file's name need not even be text."""
    strange = f"{reported}/$'\\xff'"
    script = f"cp {reported}/rules.yaml {strange}.yaml; $C inspect {strange}.yaml --picture {strange}.png"
    assert ended(script) == (0, "")
    assert ended(script, PYTHONIOENCODING="ascii") == (0, "")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (ConfigError("a\nb\x1b[2J: \udcff"), 2, r"a\nb\x1b[2J: \udcff"),
        (PermissionError(13, "Permission denied", "x.npz"), 2, "x.npz: Permission denied"),
        (OSError(28, "No space left on device"), 2, "a file or the output: No space left on device"),
        (MemoryError(), 2, "out of memory: use smaller models or images, or another machine"),
        (
            KeyError("rider"),
            1,
            "a defect of this program, KeyError: 'rider'; please report what `classaug --debug` tells of it",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_ends_a_command_is_one_line(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Raised where the command reads its first file; ``--debug`` lets all but Ctrl-C through."""

    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr(Task, "load", fail)
    arguments = ["learn", "--task", "t", "--output", "r"]
    assert classaug(arguments) == status
    assert capsys.readouterr().err == f"classaug learn: {said}\n"
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            classaug(["--debug", *arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_every_option_and_loads_nothing_heavy(command: str) -> None:
    code = f"import sys\nfrom classaug_ros import cli\ntry: cli.main(['{command}', '-h'])\nfinally: print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    *text, modules = result.stdout.splitlines()
    assert text[0].startswith(f"usage: classaug {command} ")
    assert not HEAVY.intersection(modules.split())


def test_of_libraries_warnings_alone_are_shown() -> None:
    """As PyTorch tells statistics where its loading was interrupted."""
    program = """
import logging
from classaug_ros.cli import main
main(["learn", "--task", "t", "--output", "o"])
for name in ("classaug_ros.learning", "torch.x"):
    logging.getLogger(name).info("info of %s", name)
    logging.getLogger(name).warning("warning of %s", name)
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[1:] == [
        "info of classaug_ros.learning",
        "warning of classaug_ros.learning",
        "warning of torch.x",
    ]


def test_help_and_version_of_the_program() -> None:
    result = program("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in COMMANDS)
    assert program("--version").stdout == f"classaug_ros {__version__}\n"


def test_a_mistake_is_one_line_and_status_2(world: World, tmp_path: Path) -> None:
    world.task.write_text(world.task.read_text().replace("person", "persons"))
    result = program(*learn(world, tmp_path / "rules.yaml"))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"classaug learn: {world.task}: add: 'persons' is no sub class; expected one of: ")
    assert result.stderr.count("\n") == 1


def test_a_broken_image_and_a_broken_model_are_one_line_too(world: World, tmp_path: Path) -> None:
    (world.dataset.parent / "images" / "0001.png").write_bytes(b"broken")
    result = program(*learn(world, tmp_path / "rules.yaml"))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"classaug learn: {world.dataset.parent}/images/0001.png: ")
    (world.main / "model.onnx").write_bytes(b"broken")
    result = program(*scored(world, tmp_path / "rules.yaml", tmp_path))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1


def test_debug_shows_where_a_mistake_was_met(tmp_path: Path) -> None:
    result = program("--debug", "learn", "--task", tmp_path / "no.yaml", "--output", tmp_path / "r.yaml")
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert "no.yaml: cannot be read" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["guess"], "invalid choice: 'guess'"),
        (["learn", "--output", "r.yaml"], "the following arguments are required: --task"),
        (["learn", "--task", "t", "--output", "r", "--limit", "0"], "--limit: expected at least 1, found 0"),
        (
            ["learn", "--task", "t", "--output", "r", "--min-support", "-1"],
            "--min-support: expected at least 1, found -1",
        ),
        (["learn", "--task", "t", "--output", "r", "--threads", "-1"], "--threads: expected at least 0, found -1"),
        (["learn", "--task", "t", "--output", "r", "--limit", "x"], "--limit: expected a whole number, found 'x'"),
        (["learn", "--task", "t", "--output", "r", "--threads", "999"], "--threads: expected at most 256, found 999"),
        (["export", "m", "--output", "o", "--size", "99999x1"], "--size: expected at most 16384, found 99999"),
        (["export", "m", "--output", "o", "--size", "0x0"], "--size: expected at least 1, found 0"),
        (["export", "m", "--output", "o", "--size", "5"], "--size: expected WIDTHxHEIGHT, such as 1280x720, found '5'"),
        (["card", "m.onnx", "--name", "a\udcff"], "--name: expected printable characters, found 'a\\udcff'"),
        (["build-engine", "m", "--batch", "1", "0", "2"], "--batch: expected at least 1, found 0"),
        (["build-engine", "m", "--batch", "1", "2"], "--batch: expected 3 arguments"),
        (["build-engine", "m", "--precision", "int8"], "--precision: invalid choice: 'int8'"),
        ([*BENCH, "--rate", "nan"], "--rate: expected a number from 0.01 to 1000, found 'nan'"),
        ([*BENCH, "--seconds", "inf"], "--seconds: expected a number from 1 to 86400, found 'inf'"),
        ([*BENCH, "--rounds", "-1"], "--rounds: expected at least 1, found -1"),
        (
            ["evaluate", "--rules", "r"],
            "the following arguments are required: --main, --sub, --task, --report",
        ),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        classaug(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_learning_needs_models_and_data_or_counts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["learn", "--task", str(world.task), "--output", "rules.yaml"]
    for more, message in (
        ([], "classaug learn: give --main, --sub and --dataset, or --from-counts\n"),
        (["--main", "m", "--sub", "s"], "classaug learn: give --main, --sub and --dataset, or --from-counts\n"),
        (["--from-counts", "c", "--main", "m"], "classaug learn: --from-counts runs no model: leave out --main, --sub"),
        (["--from-counts", "c", "--limit", "3"], "classaug learn: --from-counts runs no model: leave out"),
        (
            ["--from-counts", "c", "--device", "cuda"],
            "classaug learn: --from-counts runs no model: leave out --device cuda",
        ),
        (["--from-counts", "c", "--counts", "d"], "classaug learn: --from-counts runs no model: leave out"),
    ):
        assert classaug([*start, *more]) == 2
        assert capsys.readouterr().err.startswith(message)


def test_machines_share_the_work_through_counts(world: World, tmp_path: Path) -> None:
    """Two halves counted apart and merged are one run; another task needs no models."""
    other, _, _ = write_dataset(world.folder, "more", 3, (12, 10), seed=8)
    assert classaug([*learn(world, tmp_path / "whole.yaml"), "--dataset", str(other)]) == 0
    for name, dataset in (("a", world.dataset), ("b", other)):
        alone = learn(world, tmp_path / f"{name}.yaml", "--counts", tmp_path / f"{name}.npz")
        alone[alone.index("--dataset") + 1] = str(dataset)
        assert classaug(alone) == 0
    merged = ["learn", "--from-counts", str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), "--output"]
    assert classaug([*merged, str(tmp_path / "merged.yaml"), "--task", str(world.task)]) == 0
    whole, both = Rules.load(tmp_path / "whole.yaml"), Rules.load(tmp_path / "merged.yaml")
    np.testing.assert_array_equal(whole.table, both.table)
    assert whole.evidence is not None
    assert both.evidence is not None
    np.testing.assert_array_equal(whole.evidence.main, both.evidence.main)
    np.testing.assert_array_equal(whole.evidence.sub, both.evidence.sub)
    assert (whole.provenance.pixels, whole.provenance.images) == (both.provenance.pixels, both.provenance.images)

    text = world.task.read_text().replace("[person, bicycle]", "[bag]")
    (world.folder / "bags.yaml").write_text(text)
    assert classaug([*merged, str(tmp_path / "bags.yaml"), "--task", str(world.folder / "bags.yaml")]) == 0
    bags = Rules.load(tmp_path / "bags.yaml")
    assert bags.output.names == ("road", "rider", "car", "bag")
    assert bags.provenance.task == Task.load(world.folder / "bags.yaml").fingerprint


def test_counts_that_overlap_are_refused(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, limit in (("a", 2), ("b", 3)):
        assert classaug(learn(world, tmp_path / "r.yaml", "--counts", tmp_path / f"{name}.npz", "--limit", limit)) == 0
    capsys.readouterr()
    files = [str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    task = ["--task", str(world.task), "--output", str(tmp_path / "merged.yaml")]
    assert classaug(["learn", "--from-counts", *files, *task]) == 2
    assert capsys.readouterr().err.startswith(f"classaug learn: {files[1]}: image 'drive/0000' was counted before")
    assert not (tmp_path / "merged.yaml").exists()


def test_counts_and_a_task_of_other_classes_are_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classaug(learn(world, tmp_path / "r.yaml", "--counts", tmp_path / "c.npz")) == 0
    capsys.readouterr()
    world.task.write_text("main: sub/classes.csv\nsub: main/classes.csv\nadd: []\n")
    files = ["--from-counts", str(tmp_path / "c.npz"), "--task", str(world.task), "--output", str(tmp_path / "x.yaml")]
    assert classaug(["learn", *files]) == 2
    assert "the task's main classes (road, person, bicycle, ...) are not the main model's" in capsys.readouterr().err


def test_limit_and_min_support_reach_the_rules(world: World, tmp_path: Path) -> None:
    assert classaug(learn(world, tmp_path / "rules.yaml", "--limit", 2, "--min-support", 10**6)) == 0
    rules = Rules.load(tmp_path / "rules.yaml")
    assert (rules.provenance.images, rules.provenance.min_support) == (2, 10**6)
    assert (rules.table == np.arange(3)[:, None]).all()
    assert len(Counts.load(tmp_path / "rules.counts.npz").images) == 2
