"""What errors quote is bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from classaug_ros.errors import ConfigError, first_line, listed, missing, quoted
from classaug_ros.models.card import ModelCard
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules import Rules
from classaug_ros.rules.task import Task


@pytest.mark.parametrize("value", ["text", 5, None, True, 2.5, ["a", 1], {"a": {"b": []}}, (1, 2)])
def test_short_values_are_quoted_as_they_are(value: object) -> None:
    assert quoted(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        10**1000,
        1 << 10**6,
        list(range(10**5)),
        {n: n for n in range(10**5)},
        [[[[["x" * 50] * 9] * 9] * 9]],
    ],
    ids=["text", "digits", "bits", "list", "mapping", "nested"],
)
def test_long_values_are_quoted_in_short(value: object) -> None:
    assert 1 < len(quoted(value)) < 400


def test_the_first_line_of_an_error_is_told() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line("one\ntwo") == "one"
    assert first_line(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("torch", "'torch' here, which it needs: pip install 'classaug_ros[x]' (from a checkout: pip install '.[x]')"),
        ("tensorrt_rtx", "'tensorrt' or 'tensorrt_rtx' here, which it needs: on a Jetson install python3-libnvinfer, "),
        ("tensorrt_libs", "'tensorrt_libs' here, which it needs: on a Jetson install python3-libnvinfer, "),
    ],
)
def test_a_library_that_is_missing_is_told_with_how_to_get_it(module: str, message: str) -> None:
    error = ModuleNotFoundError(f"No module named {module!r}", name=module)
    assert missing(error, "it", "x").startswith(f"there is no Python module {message}")


def test_a_module_of_ours_is_none_to_install() -> None:
    with pytest.raises(ModuleNotFoundError):
        missing(ModuleNotFoundError("no", name="classaug_ros.x"), "it", "x")


def test_a_long_list_of_names_ends_in_their_number() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([]) == "none"
    assert listed([f"class {n}" for n in range(1000)]).endswith("class 19, ... and 980 more")
    assert len(listed(["x" * 10**6])) < 100


def test_no_file_makes_an_error_as_long_as_itself(tmp_path: Path) -> None:
    long = "x" * 200_000
    (tmp_path / "classes.csv").write_text(f"id,name,r,g,b\n0,{'y' * 10**5},1,2,3\n", encoding="utf-8")
    (tmp_path / "bad.csv").write_text(f"id,name,r,g,b\n{'y' * 10**5},a,1,2,3\n", encoding="utf-8")
    told = []
    for read, text in (
        (Task.load, f"main: classes.csv\nsub: classes.csv\nadd: [{long}]\n"),
        (Task.load, f"main: classes.csv\nsub: classes.csv\nsimilar: {{{long}: [a]}}\nadd: rest\n"),
        (Task.load, f"main: {long}\n"),
        (Task.load, "main: bad.csv\n"),
        (Task.load, f"{long}: 5\n"),
        (Task.load, f"? {long}\n? {long}\n"),
        (Task.load, f"main: !{long} x\n"),
        (ModelCard.load, f"name: [{long}]\nclasses: classes.csv\n"),
        (ModelCard.load, f"name: x\nclasses: classes.csv\ninput: {long}\n"),
        (Rules.load, f"a: {{ros__parameters: {{rules: {{format: {long}}}}}}}\n"),
        (Rules.load, f"a: {{ros__parameters: {{rules: {{format: 2, kind: [{long}]}}}}}}\n"),
        (Rules.load, f"a: {{ros__parameters: {{rules: {{format: 0x{'f' * 10**5}}}}}}}\n"),
    ):
        (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as raised:
            read(tmp_path / "file.yaml")
        told.append(str(raised.value))
    with pytest.raises(ConfigError) as raised:
        LabelSpace.from_csv(tmp_path / ("z" * 5000))
    told.append(str(raised.value))
    assert [line for line in told if len(line) > 800 or "\n" in line] == []
