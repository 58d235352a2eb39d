from __future__ import annotations

import re
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from classaug_ros.errors import ConfigError
from classaug_ros.node.cameras import Turns
from classaug_ros.node.parameter_table import TABLE, Row, markdown_table, rows
from classaug_ros.node.parameters import CameraSettings, camera_names, check, unknown_parameter
from classaug_ros.rules import RULES_PARAMETERS
from classaug_ros.rules.decision import Decision

PROJECT = Path(__file__).resolve().parent.parent
CONFIG = PROJECT / "config/classaug.yaml"
LEAST: dict[str, Any] = {"main_model": "/models/main", "sub_model": "/models/sub", "rules_file": "/rules.yaml"}


def problem(**given: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check({**LEAST, **given})
    return str(caught.value)


def test_defaults_are_filled_in() -> None:
    settings = check(LEAST)
    assert settings.cameras == (CameraSettings("camera", "/camera/image_raw", "raw", Turns(1, 0.0)),)
    assert settings.main_model == Path("/models/main")
    assert settings.sub_models == (Path("/models/sub"),)
    assert settings.rules_files == (Path("/rules.yaml"),)
    assert settings.rules == {}
    assert settings.decision == Decision("evidence", 0.0, contours=False) == Decision()
    assert (settings.image_reliability, settings.image_depth) == ("best_effort", 5)
    assert (settings.threads, settings.concurrent, settings.overlay_alpha) == (0, True, 0.5)
    assert (settings.stale_after, settings.autostart) == (2.0, True)


def test_each_camera_has_parameters_of_its_own() -> None:
    rear = {"image_transport": "compressed", "image_topic": "/back", "priority": 3, "max_rate": 2}
    given = {"cameras": ["front", "rear"], **{f"rear.{name}": value for name, value in rear.items()}}
    assert check({**LEAST, **given}).cameras == (
        CameraSettings("front", "/front/image_raw", "raw", Turns(1, 0.0)),
        CameraSettings("rear", "/back", "compressed", Turns(3, 2.0)),
    )


def test_rules_may_come_as_parameters() -> None:
    given = {
        "rules.format": 2,
        "rules.main_classes": ["road"],
        "rules.table": [3],
        "rules.confidence": array("d", [0.5]),
    }
    settings = check({**LEAST, "rules_file": "", **given})
    assert settings.rules_files == ()
    assert settings.rules == {"format": 2, "main_classes": ("road",), "table": (3,), "confidence": (0.5,)}


def test_several_sub_models_have_a_rules_file_each() -> None:
    settings = check({**LEAST, "sub_model": ["/a", "~/b"], "rules_file": ("/a.yaml", "/b.yaml")})
    assert settings.sub_models == (Path("/a"), Path.home() / "b")
    assert settings.rules_files == (Path("/a.yaml"), Path("/b.yaml"))
    assert check({**LEAST, "sub_model": ["/a"]}).sub_models == (Path("/a"),)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"sub_model": ["/a", "/b"]}, "sub_model names 2 models and rules_file 1 file; give one rules file per sub"),
        ({"rules_file": ["/a", "/b"]}, "sub_model names 1 model and rules_file 2 files; give one rules file per sub"),
        (
            {"sub_model": ["/a", "/b"], "rules_file": "", "rules.format": 2},
            "sub_model names 2 models, and rules.* are rules of one; name a file for each in rules_file",
        ),
    ],
    ids=["too few files", "too many files", "as parameters"],
)
def test_another_number_of_rules_than_of_sub_models_is_refused(given: dict[str, Any], expected: str) -> None:
    message = problem(**given)
    assert expected in message
    assert ";" not in message.replace(expected, "").replace("in the same order", "")


def test_settings_are_tuned_by_what_may_change_with_every_frame() -> None:
    settings = check({**LEAST, "min_confidence": 0.25})
    tuned = settings.tuned({"prefer": "main", "contours": True, "overlay_alpha": 1.0, "rules_file": "/other.yaml"})
    assert (tuned.decision, tuned.overlay_alpha) == (Decision("main", 0.25, contours=True), 1.0)
    assert replace(tuned, decision=settings.decision, overlay_alpha=0.5) == settings


def test_ros_s_own_parameters_are_let_through() -> None:
    check(
        {**LEAST, "use_sim_time": True, "qos_overrides./tf.publisher.depth": 3, "start_type_description_service": True}
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("threads", "two", "parameter threads is 'two'; expected an integer from 0 to 256"),
        ("threads", 300, "parameter threads is 300; expected an integer from 0 to 256"),
        ("threads", True, "parameter threads is True; expected an integer from 0 to 256"),
        ("concurrent", 1, "parameter concurrent is 1; expected true or false"),
        ("overlay_alpha", 1.01, "parameter overlay_alpha is 1.01; expected a number from 0 to 1"),
        ("overlay_alpha", float("nan"), "parameter overlay_alpha is nan; expected a number from 0 to 1"),
        ("image_reliability", "Reliable", "'Reliable'; expected one of best_effort, reliable"),
        ("camera.image_transport", "theora", "'theora'; expected one of raw, compressed"),
        ("main_model", 5, "parameter main_model is 5; expected a string"),
        ("cameras", "front", "parameter cameras is 'front'; expected a list of strings"),
        ("cameras", [1, 2], "parameter cameras is [1, 2]; expected a list of strings"),
        ("cameras", [], "parameter cameras is empty"),
        ("cameras", ["front", "front"], "'front' is named twice"),
        ("cameras", ["front camera"], "'front camera' cannot be a camera name"),
        ("cameras", ["rules"], "'rules' cannot be a camera name"),
        ("cameras", ["a__b"], "'a__b' cannot be a camera name"),
        ("rules.table", ["x"], "expected a list of integers"),
        ("rules.confidence", ["x"], "expected a list of numbers"),
        ("rules.confidence", 0.5, "expected a list of numbers"),
        ("main_model", ["/a"], "parameter main_model is ['/a']; expected a string"),
        ("sub_model", ["/a", ""], "is ['/a', '']; expected a string, or a list of strings that are not empty"),
        ("sub_model", [], "parameter sub_model is []; expected a string, or a list of strings that are not empty"),
        ("rules_file", ["/a", 1], "parameter rules_file is ['/a', 1]; expected a string, or a list of strings"),
        ("sub_model", "", "parameter sub_model is not set"),
        ("prefer", "sub", "parameter prefer is 'sub'; expected one of evidence, main"),
        ("min_confidence", 1.5, "parameter min_confidence is 1.5; expected a number from 0 to 1"),
        ("contours", "yes", "parameter contours is 'yes'; expected true or false"),
        ("main_model", "", "parameter main_model is not set"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(name: str, value: Any, expected: str) -> None:
    message = problem(**{name: value})
    assert expected in message
    assert "\n" not in message


def test_an_integer_serves_as_a_number() -> None:
    settings = check({**LEAST, "stale_after": 3})
    assert settings.stale_after == 3.0
    assert isinstance(settings.stale_after, float)
    assert rows([])["rules.confidence"].check([1, 0.5]) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("main_modle", "did you mean main_model?"),
        ("overlay_alhpa", "did you mean overlay_alpha?"),
        ("camera.image_topik", "did you mean camera.image_topic?"),
        ("rear.image_topic", "(cameras does not name 'rear')"),
        ("rear.max_rate", "(cameras does not name 'rear')"),
        ("rules.tabel", "did you mean rules.table?"),
        ("zzz", "see the table of parameters in docs/node.md"),
    ],
)
def test_an_unknown_name_is_refused_with_the_one_that_may_be_meant(name: str, hint: str) -> None:
    message = problem(**{name: "x"})
    assert f"unknown parameter {name}; " in message
    assert hint in message


def test_all_problems_are_named_in_one_line() -> None:
    message = problem(threads=-1, overlay_alpha=2.0, nonsense=1)
    assert all(word in message for word in ("threads", "overlay_alpha", "nonsense"))
    assert "\n" not in message


def test_rules_are_given_in_one_way_only() -> None:
    assert "both given" in problem(**{"rules.format": 1})
    assert "no rules" in problem(rules_file="")


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text() | st.integers())


@given(st.dictionaries(st.sampled_from([*rows(["camera"]), "nonsense"]), VALUES, max_size=5))
def test_whatever_is_given_is_taken_or_refused_in_one_line(given: dict[str, Any]) -> None:
    message = ""
    try:
        check({**LEAST, **given})
    except ConfigError as error:
        message = str(error)
    assert message.isprintable()


def test_every_row_has_a_default_it_allows_and_a_description() -> None:
    for row in rows(["front"]).values():
        assert row.description.endswith(".")
        if row.default is not None and not row.required:
            assert row.check(row.default) == row.default


def test_rules_parameters_are_all_in_the_table() -> None:
    table = rows(["camera"])
    for name, kind in RULES_PARAMETERS:
        assert table[f"rules.{name}"].kind == kind


def test_the_config_file_is_the_table() -> None:
    """Every parameter is there, under its name and with its default; the commented example is sound too."""
    text = CONFIG.read_text()
    given = flat(yaml.safe_load(text)["/**"]["ros__parameters"])
    expected = rows(camera_names(given))
    assert set(given) == {name for name in expected if not name.startswith("rules.")}
    for name, value in given.items():
        assert expected[name].check(value) == expected[name].default
    example = re.search(r"# Two cameras:\n((?: *#.*\n)+)", text)
    assert example
    cameras = flat(yaml.safe_load(re.sub(r"(?m)^ *# ", "", example[1])))
    assert [camera.image_transport for camera in check({**LEAST, **cameras}).cameras] == ["raw", "compressed"]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        result |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return result


def test_the_table_as_markdown_has_every_parameter() -> None:
    lines = markdown_table().splitlines()
    assert len(lines) == len(TABLE) + 2
    assert len({line.count("|") for line in lines}) == 1
    for row, line in zip(TABLE, lines[2:], strict=True):
        assert line.startswith(f"| `{row.name}` |")
    assert "| `overlay_alpha` | double | `0.5` | a number from 0 to 1 | yes |" in markdown_table()
    assert "| `sub_model` | string or string_array | required |  | no |" in markdown_table()


def test_the_documentation_has_the_table() -> None:
    assert markdown_table() in (PROJECT / "docs/node.md").read_text()


def test_an_unknown_parameter_of_no_likeness_points_to_the_table() -> None:
    assert unknown_parameter("q", ["threads"]).endswith("see the table of parameters in docs/node.md")


def test_a_row_makes_the_row_of_a_camera() -> None:
    row = Row("<camera>.image_topic", "string", "/<camera>/image_raw", "Images.")
    assert (row.for_camera("left").name, row.for_camera("left").default) == ("left.image_topic", "/left/image_raw")


@pytest.mark.parametrize("name", ["main_model", "sub_model", "rules_file"])
def test_a_home_folder_that_is_not_known_is_a_mistake(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"parameter {name} is '~nobody-here/x', whose home folder is not known"):
        check({**LEAST, name: "~nobody-here/x"})
