"""Cards written for plain ONNX files: what the file tells, what is asked, what is refused."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support.tinymodels import IR_VERSION, OPSET, write_classes, write_model

from classaug_ros.cli import main as classaug
from classaug_ros.convert.cards import IMAGENET_MEAN, IMAGENET_SCALE, card_text, run_once, write_card
from classaug_ros.models.card import InputSpec, ModelCard, OutputSpec, load_model
from classaug_ros.models.labels import LabelSpace

PROJECT = Path(__file__).resolve().parent.parent
CLASSES = ("a", "b", "c", "d")
ALL = ("--mean", "1", "2", "3", "--scale", "0.5", "--color", "rgb", "--upsample", "align_corners")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "list.csv", CLASSES)


def plain(folder: Path, **options: object) -> Path:
    """Write a model file without card or classes."""
    write_model(folder, CLASSES, (6, 10), **options)  # type: ignore[arg-type]
    for name in ("model.yaml", "classes.csv"):
        (folder / name).unlink()
    return folder / "model.onnx"


def odd_model(path: Path, shape: list[int], outputs: list[str], kind: int = TensorProto.FLOAT) -> Path:
    """Write a model that returns its input under some names."""
    nodes = [helper.make_node("Identity", ["image"], [name]) for name in outputs]
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("image", *outputs)]
    graph = helper.make_graph(nodes, "odd", values[:1], values[1:])
    opset = [helper.make_opsetid("", OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION), path)
    return path


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("kind", ["logits", "probabilities", "labels"])
def test_the_file_tells_names_sizes_and_kind(kind: str, dynamic: bool, tmp_path: Path, classes: Path) -> None:
    model = plain(tmp_path / "net", kind=kind, stride=2, dynamic=dynamic)
    size = ("--size", "10x6") if dynamic else ()
    assert classaug(["card", str(model), "--classes", str(classes), *ALL, *size]) == 0
    card = load_model(model).card
    assert card == ModelCard(
        "model",
        LabelSpace.from_csv(classes),
        InputSpec("image", 6, 10, "rgb", (1, 2, 3), (0.5, 0.5, 0.5)),
        OutputSpec("result", kind, 3, 5, "align_corners"),  # type: ignore[arg-type]
    )
    assert run_once(load_model(model)).shape[-2:] == (3, 5)


def test_labels_need_no_convention(tmp_path: Path, classes: Path) -> None:
    model = plain(tmp_path / "net", kind="labels")
    assert classaug(["card", str(model), "--classes", str(classes), *ALL[:-2]]) == 0
    assert load_model(model).card.output.upsample == "half_pixel"


@pytest.mark.parametrize(("color", "step"), [("rgb", 1), ("bgr", -1)])
def test_imagenet_goes_by_the_order_of_the_channels(color: str, step: int, tmp_path: Path, classes: Path) -> None:
    model = plain(tmp_path / "net")
    known = ["--classes", str(classes), "--imagenet", "--color", color, "--upsample", "half_pixel"]
    assert classaug(["card", str(model), *known, "--name", "my net"]) == 0
    card = load_model(model).card
    assert card.name == "my net"
    assert card.input.mean == pytest.approx(IMAGENET_MEAN[::step])
    assert card.input.scale == pytest.approx(IMAGENET_SCALE[::step])


def test_known_classes_go_by_name(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    write_model(tmp_path, [f"class {number}" for number in range(19)], (4, 4))
    for name in ("model.yaml", "classes.csv"):
        (tmp_path / name).unlink()
    assert classaug(["card", str(model), "--classes", "cityscapes", *ALL]) == 0
    assert load_model(model).card.classes.names[:2] == ("road", "sidewalk")


def test_what_is_missing_is_named(tmp_path: Path, classes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = plain(tmp_path / "net", dynamic=True)
    assert classaug(["card", str(model), "--classes", str(classes), "--mean", "0"]) == 2
    assert capsys.readouterr().err == (
        f"classaug card: {model}: the file does not tell everything about the model; give --size, --color, "
        "--imagenet or --mean and --scale, --upsample\n"
    )
    assert [file.name for file in model.parent.iterdir()] == ["model.onnx"]


def test_a_card_and_other_classes_stay_unless_forced(
    tmp_path: Path, classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = plain(tmp_path / "net")
    card, own = model.with_name("model.yaml"), model.with_name("classes.csv")
    own.write_text("mine")
    command = ["card", str(model), "--classes", str(classes), *ALL]
    assert classaug(command) == 2
    assert f"{own}: is there already; give --force" in capsys.readouterr().err
    assert own.read_text() == "mine"
    own.write_text(LabelSpace.from_csv(classes).to_csv())
    assert classaug(command) == 0
    card.write_text("mine")
    assert classaug(command) == 2
    assert f"{card}: is there already; give --force" in capsys.readouterr().err
    assert card.read_text() == "mine"
    assert classaug([*command, "--force"]) == 0
    load_model(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "8x8"], "--size 8x8: {model} takes 10x6 only"),
        (["--output", "logits"], "--output logits: {model} has the outputs result"),
        (["--imagenet"], "--imagenet is a mean and a scale: leave out --mean and --scale"),
        (["--scale", "1", "2"], "mean and scale: expected one number or three, found 2"),
        (["--classes", "cityscapes"], "{model}: output 'result' has 4 channels (1 x 4 x 6 x 10), but there are 19"),
        (["--classes", "nowhere.csv"], "nowhere.csv: cannot be read"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(
    options: list[str], message: str, tmp_path: Path, classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = plain(tmp_path / "net")
    assert classaug(["card", str(model), "--classes", str(classes), *ALL, *options]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"classaug card: {message.format(model=model)}")
    assert told.count("\n") == 1
    assert not model.with_name("model.yaml").exists()


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        (
            [1, 6, 8, 3],
            TensorProto.FLOAT,
            "input 'image' is float32 1 x 6 x 8 x 3, expected float32 N x 3 x H x W; its",
        ),
        ([1, 3, 6, 8], TensorProto.UINT8, "input 'image' is uint8 1 x 3 x 6 x 8, expected float32"),
        ([3, 6, 8], TensorProto.FLOAT, "input 'image' is float32 3 x 6 x 8, expected float32 N x 3 x H x W\n"),
        ([1, 3, 6, 8], TensorProto.FLOAT, "output 'one' has 3 channels (1 x 3 x 6 x 8), but there are 4 classes"),
    ],
    ids=["channels last", "bytes", "no batch", "not a score per class"],
)
def test_models_of_another_kind_are_refused(
    shape: list[int], kind: int, message: str, tmp_path: Path, classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = odd_model(tmp_path / "m.onnx", shape, ["one"], kind)
    assert classaug(["card", str(model), "--classes", str(classes), *ALL]) == 2
    assert message in capsys.readouterr().err


def test_one_of_several_outputs_has_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = write_classes(tmp_path / "three.csv", CLASSES[:3])
    model = odd_model(tmp_path / "m.onnx", [1, 3, 6, 8], ["one", "two"])
    command = ["card", str(model), "--classes", str(classes), *ALL]
    assert classaug(command) == 2
    assert capsys.readouterr().err.endswith("give --output\n")
    assert classaug([*command, "--output", "two"]) == 0
    assert load_model(model).card.output.name == "two"


def test_scores_that_are_positive_but_no_shares_are_logits(tmp_path: Path) -> None:
    classes = write_classes(tmp_path / "three.csv", CLASSES[:3])
    model = odd_model(tmp_path / "m.onnx", [1, 3, 6, 8], ["one"])
    known = ["--mean", "0", "--scale", "1", "--color", "rgb", "--upsample", "half_pixel"]
    assert classaug(["card", str(model), "--classes", str(classes), *known]) == 0
    assert load_model(model).card.output.kind == "logits"


def test_something_else_than_a_model_is_refused(
    tmp_path: Path, classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"broken")
    assert classaug(["card", str(tmp_path / "m.onnx"), "--classes", str(classes), *ALL]) == 2
    assert "m.onnx: ONNX Runtime cannot load it" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".pt2", ".engine"])
def test_programs_and_engines_have_the_card_of_their_onnx_file(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / f"m{suffix}"
    assert classaug(["card", str(model)]) == 2
    assert capsys.readouterr().err == (
        f"classaug card: {model}: expected an ONNX file; take the card of the same network's, or write it\n"
    )


def test_a_terminal_is_asked_until_the_answer_fits(tmp_path: Path, classes: Path) -> None:
    model = plain(tmp_path / "net", dynamic=True)
    answers = ["cats.csv", str(classes), "10 by 6", "10x6", "gbr", "bgr", "1 2 3", "0 0.5", "half_pixel"]
    keyboard, terminal = pty.openpty()
    try:
        os.write(keyboard, "".join(f"{answer}\n" for answer in answers).encode())
        result = subprocess.run(
            [sys.executable, "-m", "classaug_ros.cli", "card", str(model)],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdin=terminal,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert (result.returncode, result.stderr) == (0, "")
    for complaint in ("cats.csv: cannot be read", "found '10 by 6'", "found 'gbr'", "found '1 2 3'"):
        assert complaint in result.stdout
    card = load_model(model).card
    assert (card.input.height, card.input.width, card.input.color) == (6, 10, "bgr")
    assert (card.input.mean, card.input.scale) == ((0, 0, 0), (0.5, 0.5, 0.5))


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    name=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20),
    mean=st.tuples(finite, finite, finite),
    scale=st.tuples(*[finite.filter(bool)] * 3),
)
def test_any_card_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    mean: tuple[float, float, float],
    scale: tuple[float, float, float],
) -> None:
    folder = tmp_path_factory.mktemp("card")
    inputs, output = InputSpec(name, 7, 9, "bgr", mean, scale), OutputSpec(name, "logits", 3, 4, "asymmetric")
    card = ModelCard(name, LabelSpace((name, 'other, "b"'), ((1, 2, 3), (255, 0, 9))), inputs, output)
    read = ModelCard.load(write_card(card, folder))
    assert replace(read, input=inputs) == card
    assert replace(read.input, mean=mean, scale=scale) == inputs
    written = np.array((read.input.mean, read.input.scale), np.float32)
    np.testing.assert_array_equal(written, np.array((mean, scale), np.float32))


def test_numbers_have_no_more_digits_than_they_need() -> None:
    inputs = InputSpec("x", 1, 1, "rgb", (123.675, 1e-7, 0), (1 / 255, 1e10, -1))
    card = ModelCard("n", LabelSpace(("a",), ((0, 0, 0),)), inputs, OutputSpec("y", "labels", 1, 1, "half_pixel"))
    text = card_text(card)
    assert "  mean: [123.675, 0.0000001, 0]" in text
    assert "  scale: [0.003921569, 10000000000, -1]" in text
    assert card_text(replace(card, name="yes")).splitlines()[1] == 'name: "yes"'
    assert np.float32(0.003921569) == np.float32(1 / 255)
