"""YAML of users: what is read, and how each mistake is named."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from classaug_ros.errors import ConfigError
from classaug_ros.io.yamlfile import Section, fingerprint, read_mapping


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_values_are_read(tmp_path: Path) -> None:
    text = "name: 'yes'\nlist: [1, two]\nmap: {0: sky, 1: road}\nempty:\n"
    expected = {"name": "yes", "list": [1, "two"], "map": {0: "sky", 1: "road"}, "empty": None}
    assert read_mapping(written(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1\nb: 2\na: 3\n", "line 3: 'a' is given twice; keep one", id="key twice"),
        pytest.param("m:\n  0: sky\n  0: road\n", "line 3: '0' is given twice", id="nested key twice"),
        pytest.param("m: [{a: 1, a: 1}]", "line 1: 'a' is given twice", id="key twice in a list"),
        pytest.param("a: &x [1]\nb: *x\n", r"aliases \(\*name\) are not allowed", id="alias"),
        pytest.param("a: &x {b: 1}\nc: {<<: *x}\n", r"aliases \(\*name\) are not allowed", id="merged alias"),
        pytest.param("- 1\n- 2\n", "expected keys and values at the top, found list", id="list"),
        pytest.param("just text", "expected keys and values at the top, found str", id="text"),
        pytest.param("", "expected keys and values at the top, found NoneType", id="empty"),
        pytest.param("a: [1, 2\n", "is not valid YAML: .*line 2", id="syntax"),
        pytest.param(
            "a: !!python/object/apply:os.getcwd []\n", r"line 1: YAML tags \(.*\) are not allowed", id="object"
        ),
        pytest.param("a: 1\n---\nb: 2\n", "is not valid YAML: expected a single document", id="two documents"),
        pytest.param("[1]: 2", "is not valid YAML", id="list as key"),
        pytest.param("? [a, b]\n: 1", "is not valid YAML: .*unhashable", id="complex key"),
        pytest.param(b"a: \xff\xfe\n", "is not valid YAML: .*utf-8", id="not UTF-8"),
        pytest.param("a: 2026-99-99\n", "is not valid YAML: month must be in 1..12", id="impossible date"),
        pytest.param("[" * 100_000, "is not valid YAML: nested too deeply", id="too deep"),
        pytest.param("a: !!timestamp x\n", r"line 1: YAML tags \(.*timestamp\) are not allowed", id="tag"),
        pytest.param("a: {<<: {b: 1}}\n", r"line 1: YAML merge keys \(<<\) are not allowed", id="merge key"),
        pytest.param("a: !!str [1]\n", "is not valid YAML", id="list as text"),
        pytest.param(
            "m: {1: a, 0x1: b}\n", "line 1: a key is given twice, written differently", id="one key in two forms"
        ),
        pytest.param("a: " + "9" * 5000 + "\n", "is not valid YAML: Exceeds the limit", id="5000 digits"),
        pytest.param("a: " + "x" * 2**23, "has 8388611 bytes, expected at most 8388608", id="too large"),
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=rf"^{path}: .*{message}") as caught:
        read_mapping(path)
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0520", id="octal"),
        pytest.param("-00", id="negative octal"),
        pytest.param("12:30", id="base 60"),
        pytest.param("1:" * 10**5 + "1.5", id="long base 60"),
    ],
)
def test_what_is_a_number_to_yaml_alone_stays_text(text: str, tmp_path: Path) -> None:
    """Other nodes' parameters may mean anything by it; where a number is needed it is refused."""
    path = written(tmp_path, f"input: {{height: {text}}}\n/camera: {{ros__parameters: {{mode: {text}, 0644: a}}}}\n")
    data = read_mapping(path)
    assert data["/camera"] == {"ros__parameters": {"mode": text, "0644": "a"}}
    with pytest.raises(ConfigError, match=rf"height: expected int, found '{text[:20]}"):
        Section(data["input"], f"{path}: input", {"height"}).positive("height")


def test_a_tag_that_says_text_is_let_be(tmp_path: Path) -> None:
    assert read_mapping(written(tmp_path, "id: !!str 12\nname: !!str street\n")) == {"id": "12", "name": "street"}


def test_a_bomb_is_refused_before_it_expands(tmp_path: Path) -> None:
    lines = ["a0: &a0 [" + ", ".join("x" * 9) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 30)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"bomb\.yaml: YAML aliases \(\*name\) are not allowed here"):
        read_mapping(tmp_path / "bomb.yaml")


@pytest.mark.timeout(20)
def test_a_pipe_in_a_file_s_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match=r"pipe\.yaml: cannot be read: it is a pipe or a device, expected a file"):
        read_mapping(tmp_path / "pipe.yaml")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(100 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=r"huge\.yaml: has 104857600 bytes, expected at most 8388608"):
            read_mapping(tmp_path / "huge.yaml")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "x" * 5000], ids=["NUL", "no character", "long"])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read: ") as raised:
        read_mapping(tmp_path / name)
    assert "\0" not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{tmp_path / name}: cannot be read: {reason}"):
        read_mapping(tmp_path / name)


def section(data: object, *allowed: str) -> Section:
    return Section(data, "file.yaml: input", set(allowed) or {"key"})


def test_a_section_reads_its_keys() -> None:
    read = section({"text": "t", "number": 3, "items": [1, 2.5], "pick": "b"}, "text", "number", "items", "pick", "x")
    assert read.get("text", str) == "t"
    assert read.get("x", str, "default") == "default"
    assert read.get("number", (str, int)) == 3
    assert read.positive("number") == 3
    assert read.list_of("items", float, float) == (1.0, 2.5)
    assert read.list_of("x", str) == ()
    assert read.choice("pick", ("a", "b")) == "b"
    assert read.choice("x", ("a", "b"), "a") == "a"


@pytest.mark.parametrize("data", [None, 5, "text", ["key"]])
def test_a_section_must_be_a_mapping(data: object) -> None:
    with pytest.raises(ConfigError, match=r"^file\.yaml: input: expected keys and values, found"):
        section(data)


def test_an_unknown_key_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"^file\.yaml: input: unknown key 'heigth'; expected some of height, width$"):
        section({"heigth": 1, "width": 2}, "width", "height")


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        pytest.param("5", int, "int", id="text for a number"),
        pytest.param(5, str, "str", id="number for text"),
        pytest.param(True, int, "int", id="bool for a number"),
        pytest.param(None, str, "str", id="nothing"),
        pytest.param({}, (str, list), "str or list", id="one of two"),
    ],
)
def test_a_value_of_another_type_is_named(value: object, kind: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"^file\.yaml: input: key: expected {expected}, found") as caught:
        section({"key": value}).get("key", kind)
    assert repr(value) in str(caught.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^file\.yaml: input: key: expected str, found no such key$"):
        section({}).get("key", str)


@pytest.mark.parametrize(
    ("items", "kind"),
    [([1, "2"], int), (["a", 1], str), ([1.5, True], float), ([True], int), ([[1]], int), ("abc", str), (5, int)],
)
def test_a_list_of_other_things_is_refused(items: object, kind: type[Any]) -> None:
    with pytest.raises(ConfigError, match=r"^file\.yaml: input: key: expected "):
        section({"key": items}).list_of("key", kind)


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None])
def test_only_positive_integers_are_positive(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^file\.yaml: input: key: expected (at least 1|int), found"):
        section({"key": value}).positive("key")


def test_a_choice_names_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"^file\.yaml: input: key: expected one of a, b, found 'c'$"):
        section({"key": "c"}).choice("key", ("a", "b"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@given(JSON)
def test_equal_values_have_equal_fingerprints(value: Any) -> None:
    again = yaml.safe_load(yaml.safe_dump(value, allow_unicode=False)) if isinstance(value, int) else value
    assert fingerprint(value) == fingerprint(again)
    assert fingerprint(value) != fingerprint([value])


def test_fingerprints_do_not_depend_on_the_order_of_keys_but_on_that_of_lists() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert fingerprint(["a", "bc"]) != fingerprint(["ab", "c"])
