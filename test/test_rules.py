"""Rules: f and g against brute force and the paper's cases, and the ROS parameter file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError
from classaug_ros.labels import LabelSpace
from classaug_ros.rules import NO_RULE, RULES_PARAMETERS, Provenance, Rules, constrain, cooccurrence, derive
from classaug_ros.task import Task

PROVENANCE = Provenance("task", "main", "sub", ("set",), 3, 1234, 1, "0.1.0", "2026-01-02T03:04:05+00:00")


def space(*names: str) -> LabelSpace:
    return LabelSpace(names, tuple((i % 256, i // 256, 3) for i in range(len(names))))


def task_of(
    main: tuple[str, ...], sub: tuple[str, ...], similar: Mapping[str, tuple[str, ...]], added: tuple[str, ...]
) -> Task:
    sets = tuple(frozenset(sub.index(name) for name in similar.get(c, ())) for c in main)
    return Task(space(*main), space(*sub), sets, tuple(sorted(sub.index(name) for name in added)))


def f_by_hand(counts: NDArray[np.int64], i: int, j: int, min_support: int) -> int | None:
    """Equation 1: the truth most frequent among the pixels of the pair, the lowest of equals."""
    seen = [int(counts[i, j, k]) for k in range(counts.shape[2])]
    if sum(seen) == 0 or sum(seen) < min_support:
        return None
    return seen.index(max(seen))


def g_by_hand(i: int, f: int | None, task: Task) -> str:
    """Equation 2, as the name of the output class; a pair without f keeps the main class."""
    name = task.main.names[i]
    if f is None or f in task.similar[i]:
        return name
    s_aug = set(task.main.names) | {task.sub.names[j] for j in task.added}
    in_s_aug = f in task.added and task.sub.names[f] in s_aug
    return task.sub.names[f] if in_s_aug else name


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """Random tasks: any sub class may be similar to any main classes, added, or neither."""
    m, n = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    added = draw(st.sets(st.integers(0, n - 1)))
    rest = sorted(set(range(n)) - added)
    similar = tuple(frozenset(draw(st.sets(st.sampled_from(rest)))) if rest else frozenset() for _ in range(m))
    main, sub = space(*(f"main {i}" for i in range(m))), space(*(f"sub {j}" for j in range(n)))
    return Task(main, sub, similar, tuple(sorted(added)))


@settings(max_examples=200)
@given(task=tasks(), data=st.data(), most=st.sampled_from([1, 2, 5, 10**12]), min_support=st.integers(1, 12))
def test_f_and_g_are_the_equations_by_hand(task: Task, data: st.DataObject, most: int, min_support: int) -> None:
    m, n = len(task.main), len(task.sub)
    values = data.draw(st.lists(st.integers(0, most), min_size=m * n * n, max_size=m * n * n))
    counts = np.array(values, np.int64).reshape(m, n, n)
    f = cooccurrence(counts, min_support)
    table = constrain(f, task)
    assert f.shape == table.shape == (m, n)
    for i in range(m):
        for j in range(n):
            by_hand = f_by_hand(counts, i, j, min_support)
            assert f[i, j] == (NO_RULE if by_hand is None else by_hand)
            assert task.output.names[table[i, j]] == g_by_hand(i, by_hand, task)


def test_ties_go_to_the_lowest_id() -> None:
    counts = np.array([[[0, 4, 4, 1], [2, 2, 2, 2], [0, 0, 0, 1], [3, 0, 0, 3]]], np.int64)
    assert cooccurrence(counts).tolist() == [[1, 0, 3, 0]]


@pytest.mark.parametrize(
    ("min_support", "expected"),
    [(1, [[NO_RULE, 0, 1, 1]]), (2, [[NO_RULE, NO_RULE, 1, 1]]), (3, [[NO_RULE] * 3 + [1]])],
)
def test_a_pair_seen_fewer_times_than_min_support_has_no_rule(min_support: int, expected: list[list[int]]) -> None:
    counts = np.array([[[0, 0], [1, 0], [0, 2], [1, 2]]], np.int64)
    assert cooccurrence(counts, min_support).tolist() == expected


def test_counts_past_32_bits_are_compared() -> None:
    counts = np.array([[[2**40, 2**40 + 1, 2**33]]], np.int64)
    assert cooccurrence(counts).tolist() == [[1]]


MAIN = ("road", "building", "rider", "pole")
SUB = ("road", "route", "house", "person", "bicycle", "bag", "column", "lake")
SIMILAR = {"road": ("road", "route"), "building": ("house",), "pole": ("column",)}


@pytest.mark.parametrize(
    ("main", "f", "expected"),
    [
        pytest.param("road", "road", "road", id="same name stays main"),
        pytest.param("road", "route", "road", id="similar keeps the main name"),
        pytest.param("building", "house", "building", id="similar of another name keeps the main name"),
        pytest.param("pole", "column", "pole", id="paper's pole and column"),
        pytest.param("building", "lake", "building", id="neither similar nor added gives the main class"),
        pytest.param("building", "road", "building", id="similar to another main class gives the main class"),
        pytest.param("rider", "person", "person", id="rider comes apart: person"),
        pytest.param("rider", "bag", "bag", id="rider comes apart: bag"),
        pytest.param("rider", "bicycle", "bicycle", id="rider comes apart: bicycle"),
        pytest.param("road", "bag", "bag", id="an added class replaces any main class"),
        pytest.param("road", None, "road", id="a pair never seen gives the main class"),
    ],
)
def test_the_paper_s_cases(main: str, f: str | None, expected: str) -> None:
    task = task_of(MAIN, SUB, SIMILAR, ("person", "bag", "bicycle"))
    counts = np.zeros((len(MAIN), len(SUB), len(SUB)), np.int64)
    i, predicted = MAIN.index(main), SUB.index("lake")
    if f is not None:
        counts[i, predicted, SUB.index(f)] = 5
    rules = derive(counts, task, PROVENANCE)
    assert rules.output.names[rules.table[i, predicted]] == expected
    others = np.delete(rules.table.ravel(), i * len(SUB) + predicted)
    assert (others == np.delete(np.arange(len(MAIN)).repeat(len(SUB)), i * len(SUB) + predicted)).all()


def test_rider_stays_rider_until_person_and_bicycle_are_added() -> None:
    counts = np.zeros((len(MAIN), len(SUB), len(SUB)), np.int64)
    counts[2, 3, 3] = 9
    before = derive(counts, task_of(MAIN, SUB, SIMILAR, ()), PROVENANCE)
    assert before.output.names[before.table[2, 3]] == "rider"
    after = derive(counts, task_of(MAIN, SUB, SIMILAR, ("person",)), PROVENANCE)
    assert after.output.names[after.table[2, 3]] == "person"
    assert after.sources == ("main",) * 4 + ("added",)


def big_rules(m: int, n: int, added: int, seed: int = 0) -> Rules:
    """Rules of random counts with many classes."""
    random = np.random.default_rng(seed)
    task = task_of(
        tuple(f"main {i}" for i in range(m)),
        tuple(f"sub {j}" for j in range(n)),
        {"main 0": ("sub 0",)} if added < n else {},
        tuple(f"sub {j}" for j in range(n - added, n)),
    )
    f = random.integers(NO_RULE, n, (m, n))
    sources = ("main",) * m + ("added",) * added
    return Rules(task.main.names, task.sub.names, task.output, sources, constrain(f, task), PROVENANCE)


@pytest.mark.parametrize(("m", "added", "dtype"), [(200, 55, np.uint8), (200, 56, np.uint16), (200, 150, np.uint16)])
def test_past_255_output_classes_labels_have_16_bits(m: int, added: int, dtype: type) -> None:
    rules = big_rules(m, 150, added)
    assert rules.table.dtype == rules.output.dtype == np.dtype(dtype)
    assert rules.label_info()["unlabelled"] == rules.output.unlabelled == np.iinfo(dtype).max
    assert rules.table.max() == m + added - 1


def test_label_info_tells_every_class() -> None:
    rules = derive(np.ones((2, 2, 2), np.int64), task_of(("a", "b"), ("c", "d"), {}, ("d",)), PROVENANCE)
    info = rules.label_info()
    assert info == {
        "unlabelled": 255,
        "classes": [
            {"id": 0, "name": "a", "color": [0, 0, 3], "source": "main"},
            {"id": 1, "name": "b", "color": [1, 0, 3], "source": "main"},
            {"id": 2, "name": "d", "color": [1, 0, 3], "source": "added"},
        ],
    }
    assert json.loads(json.dumps(info)) == info


AWKWARD = (
    "yes",
    "no",
    "null",
    "1",
    "1.5",
    "0x1F",
    "'q'",
    '"',
    "a: b",
    "# c",
    "- d",
    "é",
    "道",
    "😀",
    "a\\n",
    "~",
    "[e]",
    "{f}",
    "*g",
    "&h",
    "!i",
    "%j",
    "@k",
    "`l`",
    "a, b",
    "2026-01-02",
    "1:30",
    "=",
    "<<",
    ".inf",
    "$(m)",
)


def awkward_rules() -> Rules:
    task = task_of(("on", "off"), AWKWARD, {"on": AWKWARD[:2]}, AWKWARD[2:])
    f = np.random.default_rng(1).integers(NO_RULE, len(AWKWARD), (2, len(AWKWARD)))
    sources = ("main",) * 2 + ("added",) * len(task.added)
    provenance = replace(PROVENANCE, datasets=AWKWARD, images=2**31, pixels=2**62)
    return Rules(task.main.names, task.sub.names, task.output, sources, constrain(f, task), provenance)


EXAMPLES: dict[str, Callable[[], Rules]] = {
    "one by one": lambda: big_rules(1, 1, 0),
    "150 x 150": lambda: big_rules(150, 150, 100),
    "350 output classes": lambda: big_rules(200, 150, 150),
    "awkward names": awkward_rules,
}


def assert_same_rules(one: Rules, other: Rules) -> None:
    assert (one.main_classes, one.sub_classes, one.output) == (other.main_classes, other.sub_classes, other.output)
    assert (one.sources, one.provenance) == (other.sources, other.provenance)
    assert one.table.dtype == other.table.dtype
    np.testing.assert_array_equal(one.table, other.table)


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_saved_file_loads_as_the_same_rules(example: str, tmp_path: Path) -> None:
    rules = EXAMPLES[example]()
    path = tmp_path / "folder" / "rules.yaml"
    rules.save(path)
    assert_same_rules(Rules.load(path), rules)
    assert path.read_text(encoding="utf-8").startswith("# Written by `classaug learn`")
    rows = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("      table: ["))
    assert rows.count(",") <= len(rules.sub_classes)  # a line per main class: diffs stay readable


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=6, unique=True))
def test_whatever_names_are_allowed_survive_the_file(names: list[str], tmp_path: Path) -> None:
    try:
        task = task_of(("main",), tuple(names), {}, tuple(names))
        rules = derive(np.ones((1, len(names), len(names)), np.int64), task, PROVENANCE)
    except ConfigError:
        return
    rules.save(tmp_path / "rules.yaml")
    assert_same_rules(Rules.load(tmp_path / "rules.yaml"), rules)


def test_rules_are_found_among_the_parameters_of_other_nodes(tmp_path: Path) -> None:
    rules = big_rules(3, 4, 2)
    rules.save(tmp_path / "rules.yaml")
    data = yaml.safe_load((tmp_path / "rules.yaml").read_text())
    mixed = {"/camera": {"ros__parameters": {"rate": 5}}, "/classaug": data["/**"], "other": 3}
    (tmp_path / "mixed.yaml").write_text(yaml.safe_dump(mixed))
    assert_same_rules(Rules.load(tmp_path / "mixed.yaml"), rules)


def test_flat_parameters_are_declared_and_rebuild_the_rules() -> None:
    rules = big_rules(3, 4, 2)
    values = rules.to_parameters()
    assert set(values) == {name for name, _ in RULES_PARAMETERS}
    kinds = {int: "integer", str: "string"}
    for name, kind in RULES_PARAMETERS:
        value = values[name]
        assert kind == (f"{kinds[type(value[0])]}_array" if isinstance(value, list) else kinds[type(value)])
    assert_same_rules(Rules.from_parameters(values), rules)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (f"no {name}", {name: None}, rf"rules\.{name}: missing; expected {kind}") for name, kind in RULES_PARAMETERS
]
REFUSED += [
    (f"{name} of another type", {name: 1.5}, rf"rules\.{name}: expected {kind}, found")
    for name, kind in RULES_PARAMETERS
]
REFUSED += [
    ("format of a later version", {"format": 2}, r"rules\.format: expected 1, found 2; learn the rules again"),
    ("number as name", {"class_names": ["main 0", 5]}, r"rules\.class_names: expected string_array, found 5"),
    ("text as id", {"table": [0, "1"]}, r"rules\.table: expected integer_array, found '1'"),
    ("bool as id", {"table": [True] * 6}, r"rules\.table: expected integer_array, found True"),
    ("fraction as id", {"table": [0.5] * 6}, r"rules\.table: expected integer_array, found 0\.5"),
    ("text as array", {"class_sources": "main"}, r"rules\.class_sources: expected string_array, found 'main'"),
    ("short table", {"table": [0] * 5}, r"rules: table: expected 2 x 3 = 6 values, found 5"),
    ("id past the classes", {"table": [0, 0, 0, 1, 1, 4]}, r"rules: table: ids must be 0\.\.3, found 0\.\.4"),
    ("huge id", {"table": [0, 0, 0, 1, 1, 2**40]}, r"rules: table: ids must be 0\.\.3"),
    ("negative id", {"table": [0, 0, 0, 1, 1, -1]}, r"rules: table: ids must be 0\.\.3, found -1\.\.1"),
    ("no table", {"table": []}, r"rules\.table: expected integer_array, found an empty one"),
    (
        "colours not in threes",
        {"class_colors": [0] * 11},
        r"rules: class_colors: expected three values per class, found 11",
    ),
    ("colours too few", {"class_colors": [0] * 9}, r"rules: expected one colour per class \(4\), found 3"),
    ("colour past 255", {"class_colors": [0] * 11 + [256]}, r"rules: class 'sub 2': colour \(0, 0, 256\)"),
    ("name twice", {"class_names": ["main 0", "main 1", "sub 1", "sub 1"]}, r"rules: class 'sub 1' is given twice"),
    ("main order", {"main_classes": ["main 1", "main 0"]}, r"rules: class_names must start with main_classes"),
    (
        "added class unknown",
        {"class_names": ["main 0", "main 1", "sub 1", "x"]},
        r"rules: added class 'x' is not among sub_classes",
    ),
    (
        "sources",
        {"class_sources": ["main", "main", "main", "added"]},
        r"rules: class_sources must be 'main' for each main class",
    ),
    ("source unknown", {"class_sources": ["main", "main", "added", "sub"]}, r"rules: class_sources must be"),
    (
        "no main class",
        {"main_classes": [], "table": []},
        r"rules\.main_classes: expected string_array, found an empty one",
    ),
    (
        "no sub class",
        {"sub_classes": [], "table": []},
        r"rules\.sub_classes: expected string_array, found an empty one",
    ),
]


@pytest.mark.parametrize(("changes", "message"), [pytest.param(c, m, id=i) for i, c, m in REFUSED])
def test_malformed_parameters_are_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    values = {**big_rules(2, 3, 2).to_parameters(), **changes}
    with pytest.raises(ConfigError, match=f"^{message}"):
        Rules.from_parameters(values)
    nested: dict[str, Any] = {"provenance": {}}
    for name, value in values.items():
        section, _, leaf = name.rpartition(".")
        if value is not None:
            (nested[section] if section else nested)[leaf] = value
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"rules": nested}}}))
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        Rules.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n", "no rules in it; expected a ROS parameter file written by `classaug learn`"),
        ("/**:\n  ros__parameters:\n    rate: 5\n", "no rules in it"),
        ("/**:\n  ros__parameters: 5\n", "no rules in it"),
        ("/**:\n  ros__parameters:\n    rules: none\n", r"rules\.format: missing"),
        ("/**:\n  ros__parameters:\n    rules: [1]\n", r"rules\.format: missing"),
        ("/**:\n  ros__parameters:\n    rules:\n    rules:\n", "line 4: 'rules' is given twice"),
        ("- 1\n", "expected keys and values at the top"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        Rules.load(path)


def test_a_table_of_another_shape_or_type_is_refused() -> None:
    rules = big_rules(2, 3, 2)
    with pytest.raises(ConfigError, match="table: expected 2 x 3 values, found 3 x 2"):
        replace(rules, table=rules.table.T)
    with pytest.raises(ConfigError, match="table: expected uint8, found int64"):
        replace(rules, table=rules.table.astype(np.int64))
    with pytest.raises(ConfigError, match=r"table: ids must be 0\.\.3, found 9"):
        replace(rules, table=np.full((2, 3), 9, np.uint8))


@pytest.mark.ros
@pytest.mark.parametrize("example", EXAMPLES)
def test_ros_reads_the_file_as_parameters(example: str, tmp_path: Path, domain: int) -> None:
    """Through rclpy itself: --params-file, declared types, values back."""
    import rclpy
    from rclpy.context import Context
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions

    rules = EXAMPLES[example]()
    path = tmp_path / "rules.yaml"
    rules.save(path)
    context = Context()
    arguments = ["--ros-args", "--params-file", str(path)]
    rclpy.init(args=arguments, context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = Node("rules_reader", context=context, enable_rosout=False, start_parameter_services=False)
        try:
            for name, kind in RULES_PARAMETERS:
                node.declare_parameter(f"rules.{name}", Parameter.Type[kind.upper()])
            values = {name: node.get_parameter(f"rules.{name}").value for name, _ in RULES_PARAMETERS}
        finally:
            node.destroy_node()
    finally:
        rclpy.shutdown(context=context)
    assert_same_rules(Rules.from_parameters(values), rules)
