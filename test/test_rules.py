"""Rules: f, g and purity against brute force and the paper's cases, and the ROS parameter file with its arrays."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.tinymodels import random_evidence

from classaug_ros.errors import ConfigError
from classaug_ros.io.files import write_all
from classaug_ros.io.yamlfile import MAX_BYTES
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules import (
    NO_RULE,
    RULES_PARAMETERS,
    Evidence,
    Provenance,
    Rules,
    constrain,
    cooccurrence,
    derive,
    groups_of,
    purity,
)
from classaug_ros.rules.task import Task

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


def purity_by_hand(counts: NDArray[np.int64], i: int, j: int, output: int, task: Task) -> float:
    """Of the pixels of a pair whose truth means some output class, the share whose truth means this one."""
    right = seen = 0
    for k in range(counts.shape[2]):
        means = {main for main, similar in enumerate(task.similar) if k in similar}
        if k in task.added:
            means.add(len(task.main) + task.added.index(k))
        seen += int(counts[i, j, k]) if means else 0
        right += int(counts[i, j, k]) if output in means else 0
    return right / seen if seen else 0.0


@settings(max_examples=100)
@given(task=tasks(), data=st.data(), most=st.sampled_from([1, 5, 10**12]))
def test_purity_is_the_share_of_truths_that_mean_the_table_s_class(task: Task, data: st.DataObject, most: int) -> None:
    m, n = len(task.main), len(task.sub)
    values = data.draw(st.lists(st.integers(0, most), min_size=m * n * n, max_size=m * n * n))
    counts = np.array(values, np.int64).reshape(m, n, n)
    rules = derive(counts, task, PROVENANCE)
    assert rules.confidence.dtype == np.float32
    shares = purity(counts, rules.table, task)
    np.testing.assert_allclose(rules.confidence, shares, atol=1e-7)
    for i, j in np.ndindex(m, n):
        assert shares[i, j] == pytest.approx(purity_by_hand(counts, i, j, int(rules.table[i, j]), task), abs=5.1e-4)


def groups_by_hand(task: Task) -> list[int]:
    """Join main classes that share a similar sub class until nothing changes, then number what is left."""
    teams = [{main} for main in range(len(task.main))]
    while True:
        touching = next(
            (
                (one, other)
                for number, one in enumerate(teams)
                for other in teams[number + 1 :]
                if any(task.similar[a] & task.similar[b] for a in one for b in other)
            ),
            None,
        )
        if touching is None:
            break
        one, other = touching
        one |= other
        teams.remove(other)
    teams.sort(key=min)
    mains = [next(number for number, team in enumerate(teams) if main in team) for main in range(len(task.main))]
    return mains + [len(teams) + number for number in range(len(task.added))]


@settings(max_examples=300)
@given(task=tasks())
def test_main_classes_that_share_a_similar_class_are_one_group(task: Task) -> None:
    groups = groups_of(task)
    assert groups.dtype == np.int32
    assert groups.tolist() == groups_by_hand(task)


def test_groups_are_joined_through_others() -> None:
    similar = {"a": ("1", "2"), "b": ("4",), "c": ("2", "3"), "d": ("3",), "e": ("4",)}
    task = task_of(("a", "b", "c", "d", "e", "f"), ("1", "2", "3", "4", "5"), similar, ("5",))
    assert groups_of(task).tolist() == [0, 1, 0, 0, 1, 2, 3]


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
    confidence = (random.integers(0, 1001, (m, n)) / 1000).astype(np.float32)
    names = task.main.names, task.sub.names
    return Rules(*names, task.output, sources, constrain(f, task), confidence, None, "table", PROVENANCE)


def both_kinds(m: int = 3, n: int = 4, added: int = 2, seed: int = 0) -> Rules:
    """Rules with evidence, in which the first main classes are one group."""
    rules = big_rules(m, n, added, seed)
    groups = [*(max(main - 1, 0) for main in range(m)), *range(m - 1, m - 1 + added)]
    return replace(rules, evidence=random_evidence(groups, m, n, seed), kind="probability")


@pytest.mark.parametrize(("m", "added", "dtype"), [(200, 55, np.uint8), (200, 56, np.uint16), (200, 150, np.uint16)])
def test_past_255_output_classes_labels_have_16_bits(m: int, added: int, dtype: type) -> None:
    rules = big_rules(m, 150, added)
    assert rules.table.dtype == rules.output.dtype == np.dtype(dtype)
    assert rules.output.unlabelled == np.iinfo(dtype).max
    assert rules.table.max() == m + added - 1


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
    counts = np.random.default_rng(1).integers(0, 9, (2, len(AWKWARD), len(AWKWARD)))
    return derive(counts, task, replace(PROVENANCE, datasets=AWKWARD, images=2**31, pixels=2**62))


EXAMPLES: dict[str, Callable[[], Rules]] = {
    "one by one": lambda: big_rules(1, 1, 0),
    "150 x 150": lambda: big_rules(150, 150, 100),
    "308 output classes": lambda: big_rules(300, 9, 8),
    "awkward names": awkward_rules,
    "both kinds": both_kinds,
    "both kinds, table chosen": lambda: replace(both_kinds(), kind="table"),
    "both kinds, 308 output classes": lambda: both_kinds(300, 9, 8),
}


def assert_same_rules(one: Rules, other: Rules) -> None:
    assert (one.main_classes, one.sub_classes, one.output) == (other.main_classes, other.sub_classes, other.output)
    assert (one.sources, one.kind, one.provenance) == (other.sources, other.kind, other.provenance)
    assert one.table.dtype == other.table.dtype
    assert one.confidence.dtype == other.confidence.dtype == np.float32
    np.testing.assert_array_equal(one.table, other.table)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-6)
    assert (one.evidence is None) == (other.evidence is None)
    for field in fields(Evidence) if one.evidence is not None else ():
        np.testing.assert_array_equal(
            getattr(one.evidence, field.name), getattr(other.evidence, field.name), strict=True
        )


def arrays_of(path: Path) -> Path:
    """The arrays beside a rules file."""
    (found,) = path.parent.glob(f"{path.stem}.*.arrays.npz")
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_saved_file_loads_as_the_same_rules(example: str, tmp_path: Path) -> None:
    rules = EXAMPLES[example]()
    path = tmp_path / "folder" / "rules.yaml"
    rules.save(path)
    assert_same_rules(Rules.load(path), rules)
    written = {path} if rules.evidence is None else {path, arrays_of(path)}
    assert set(path.parent.iterdir()) == written
    assert path.read_text(encoding="utf-8").startswith("# Written by `classaug learn`")
    lines = path.read_text(encoding="utf-8").splitlines()
    for name in ("table", "confidence"):
        row = next(line for line in lines if line.startswith(f"      {name}: ["))
        assert row.count(",") <= len(rules.sub_classes)  # a line per main class: diffs stay readable


def test_tables_stand_one_row_under_the_other(tmp_path: Path) -> None:
    task = task_of(("road", "car"), ("road", "lane"), {"road": ("road",)}, ("lane",))
    counts = np.array([[[2, 1], [1, 2]], [[1, 0], [0, 0]]])
    derive(counts, task, PROVENANCE).save(tmp_path / "rules.yaml")
    assert """
      table: [0, 2,
              1, 1]
      confidence: [0.667, 0.667,
                   0.0, 0.0]
""" in (tmp_path / "rules.yaml").read_text()


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
    values = rules.to_parameters("rules.arrays.npz", "sha")
    assert set(values) == {name for name, _ in RULES_PARAMETERS}
    kinds = {int: "integer", str: "string", float: "double"}
    for name, kind in RULES_PARAMETERS:
        value = values[name]
        assert kind == (f"{kinds[type(value[0])]}_array" if isinstance(value, list) else kinds[type(value)])
    assert_same_rules(Rules.from_parameters(rules.to_parameters()), rules)


def test_arrays_are_looked_for_beside_the_parameters(tmp_path: Path) -> None:
    rules = both_kinds()
    rules.save(tmp_path / "one" / "rules.yaml")
    arrays = arrays_of(tmp_path / "one" / "rules.yaml")
    values = rules.to_parameters(arrays.name, hashlib.sha256(arrays.read_bytes()).hexdigest())
    assert_same_rules(Rules.from_parameters(values, tmp_path / "one"), rules)
    (tmp_path / "one").rename(tmp_path / "two")
    assert_same_rules(Rules.load(tmp_path / "two" / "rules.yaml"), rules)
    values["arrays"] = str(tmp_path / "two" / arrays.name)
    assert_same_rules(Rules.from_parameters(values), rules)


def test_saved_again_without_evidence_the_rules_need_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    both_kinds().save(path)
    rules = big_rules(3, 4, 2)
    rules.save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert_same_rules(Rules.load(path), rules)


def test_arrays_that_a_copy_names_are_kept(tmp_path: Path) -> None:
    path, copy, other = (tmp_path / f"{name}.yaml" for name in ("rules", "rules_good", "rules_again"))
    first = both_kinds()
    first.save(path)
    for each in (copy, other):
        each.write_bytes(path.read_bytes())
    for seed in (1, 2):
        changed_evidence(first, seed).save(path)
        assert_same_rules(Rules.load(copy), first)
    assert len(list(tmp_path.glob("rules.*.arrays.npz"))) == 2, "those of the copies, and those in use"
    changed_evidence(first, 1).save(other)
    assert_same_rules(Rules.load(copy), first)


def test_arrays_of_rules_saved_again_meanwhile_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first = tmp_path / "rules.yaml", both_kinds()
    first.save(path)

    def write_then_other(files: Mapping[Path, bytes]) -> None:
        monkeypatch.undo()
        write_all(files)
        first.save(path)

    monkeypatch.setattr("classaug_ros.rules.rules.write_all", write_then_other)
    changed_evidence(first, 1).save(path)
    assert_same_rules(Rules.load(path), first)
    arrays_of(path)  # no others are left


def changed_evidence(rules: Rules, amount: int) -> Rules:
    assert rules.evidence is not None
    return replace(rules, evidence=replace(rules.evidence, bias=rules.evidence.bias + np.float32(amount)))


def test_the_rules_of_600_by_600_classes_are_no_larger_than_what_is_read(tmp_path: Path) -> None:
    main, sub = (tuple(f"{kind} number {i}, thing; object" for i in range(600)) for kind in ("main", "sub"))
    random = np.random.default_rng(0)
    table, confidence = random.integers(0, 1200, (600, 600), np.uint16), random.random((600, 600), np.float32)
    sources = ("main",) * 600 + ("added",) * 600
    Rules(main, sub, space(*main, *sub), sources, table, confidence, None, "table", PROVENANCE).save(
        tmp_path / "r.yaml"
    )
    assert 2**22 < (tmp_path / "r.yaml").stat().st_size <= MAX_BYTES


def archive(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def changed(**changes: Any) -> bytes:
    """The arrays of ``both_kinds``, some of them changed; None leaves one out."""
    evidence = both_kinds().evidence
    assert evidence is not None
    given = {**{field.name: getattr(evidence, field.name) for field in fields(Evidence)}, **changes}
    return archive(**{name: value for name, value in given.items() if value is not None})


def one_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def with_nan(*shape: int) -> NDArray[np.float32]:
    values = np.zeros(shape, np.float32)
    values.flat[-1] = np.nan
    return values


BROKEN_ARRAYS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not an arrays file of `classaug learn`, or broken"),
    "no archive": (b"hello", "is not an arrays file"),
    "truncated": (changed()[:-30], "is not an arrays file"),
    "a byte changed": (
        changed(bias=np.full(4, 0.3, np.float32)).replace(b"\x9a\x99\x99\x3e", b"\x9a\x99\x99\x3f"),
        "is not",
    ),
    "a pickle": (pickle.dumps({"main": 1}), "is not an arrays file"),
    "objects in it": (changed(main=np.array([{}, {}], object)), "is not an arrays file"),
    "one array alone": (one_array(), "is not an arrays file"),
    "no weights": (changed(main=None), "is not an arrays file"),
    "no gamma": (changed(gamma=None), "is not an arrays file"),
    "several gammas": (changed(gamma=np.zeros(3)), "is not an arrays file"),
    "gamma in words": (changed(gamma="half"), "is not an arrays file"),
    "main of other classes": (changed(main=np.zeros((4, 5), np.float32)), r"main: expected float32 4 x 3, found .*5\)"),
    "sub of other classes": (changed(sub=np.zeros((4, 3), np.float32)), "sub: expected float32 4 x 4, found"),
    "doubles": (changed(sub=np.zeros((4, 4))), "sub: expected float32 4 x 4, found float64"),
    "a flat bias": (changed(bias=np.zeros((4, 1), np.float32)), "bias: expected float32 4, found"),
    "few boosts": (changed(boost=np.zeros(3, np.float32)), "boost: expected float32 4, found"),
    "a weight that is none": (changed(main=with_nan(4, 3)), "main: holds values that are no numbers"),
    "a boost that is none": (changed(boost=with_nan(4)), "boost: holds values that are no numbers"),
    "an infinite bias": (changed(bias=np.full(4, np.inf, np.float32)), "bias: holds values that are no numbers"),
    "groups of others": (changed(groups=np.arange(4, dtype=np.int32)), "groups: expected int32 5, found"),
    "groups in words": (changed(groups=np.array(["a"] * 5)), "groups: expected int32 5, found <U1"),
    "fractions of groups": (changed(groups=np.arange(5.0)), "groups: expected int32 5, found float64"),
    "a group without classes": (
        changed(groups=np.array([0, 0, 0, 2, 3], np.int32)),
        r"groups: expected every group of 0\.\.3 to have a class",
    ),
    "a group below 0": (changed(groups=np.array([-1, 0, 1, 2, 3], np.int32)), "groups: expected every group"),
    "too many groups": (
        changed(groups=np.array([0, 1, 2, 3, 2**31 - 1], np.int32)),
        "main: expected float32 2147483648",
    ),
}


@pytest.mark.parametrize("broken", BROKEN_ARRAYS)
def test_arrays_that_are_none_are_refused(broken: str, tmp_path: Path) -> None:
    """By their contents: the checksum is theirs."""
    data, message = BROKEN_ARRAYS[broken]
    values = both_kinds().to_parameters("x.npz", hashlib.sha256(data).hexdigest())
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(ConfigError, match=f"^rules: .*{message}") as raised:
        Rules.from_parameters(values, tmp_path)
    assert "\n" not in str(raised.value)
    assert "pickle" not in str(raised.value)


def test_missing_arrays_are_asked_for(tmp_path: Path) -> None:
    both_kinds().save(tmp_path / "rules.yaml")
    arrays = arrays_of(tmp_path / "rules.yaml")
    arrays.unlink()
    message = f"^{tmp_path}/rules.yaml: rules: arrays: {arrays}: cannot be read: No such file .*keep both together$"
    with pytest.raises(ConfigError, match=message):
        Rules.load(tmp_path / "rules.yaml")
    arrays.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Rules.load(tmp_path / "rules.yaml")


def test_arrays_of_other_rules_are_refused(tmp_path: Path) -> None:
    both_kinds(seed=1).save(tmp_path / "one.yaml")
    both_kinds(seed=2).save(tmp_path / "two.yaml")
    arrays_of(tmp_path / "one.yaml").replace(arrays_of(tmp_path / "two.yaml"))
    message = (
        r"two\.\w{12}\.arrays\.npz is not the file these rules were written with \(SHA-256 \w{12}, expected \w{12}\)"
    )
    with pytest.raises(ConfigError, match=message):
        Rules.load(tmp_path / "two.yaml")


def test_a_kind_needs_what_it_is_applied_by() -> None:
    rules = big_rules(2, 3, 2)
    assert rules.kind == "table"
    with pytest.raises(ConfigError, match=r"^kind: probability needs arrays, and these rules have none; choose table"):
        replace(rules, kind="probability")
    with pytest.raises(ConfigError, match=r"^kind: expected one of table, probability, found 'both'"):
        replace(rules, kind="both")  # type: ignore[arg-type]


def test_evidence_makes_probability_the_kind_in_use() -> None:
    task = task_of(("a", "b"), ("c", "d"), {}, ("d",))
    counts = np.ones((2, 2, 2), np.int64)
    evidence = random_evidence(groups_of(task).tolist(), 2, 2)
    with_it, without = derive(counts, task, PROVENANCE, evidence), derive(counts, task, PROVENANCE)
    assert (with_it.kind, without.kind) == ("probability", "table")
    np.testing.assert_array_equal(with_it.table, without.table)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (f"no {name}", {name: None}, rf"rules\.{name}: missing; expected {kind}") for name, kind in RULES_PARAMETERS
]
REFUSED += [
    (f"{name} of another type", {name: [{}]}, rf"rules\.{name}: expected {kind}, found")
    for name, kind in RULES_PARAMETERS
    if name != "format"
]
REFUSED += [
    ("format of an earlier version", {"format": 1}, r"rules\.format: expected 2, found 1; learn the rules again"),
    ("format of a later version", {"format": 3}, r"rules\.format: expected 2, found 3; learn the rules again"),
    ("format in words", {"format": "two"}, r"rules\.format: expected 2, found 'two'; learn the rules again"),
    ("unknown kind", {"kind": "both"}, r"rules: kind: expected one of table, probability, found 'both'"),
    ("probability without arrays", {"kind": "probability"}, r"rules: kind: probability needs arrays, and these rules"),
    ("few confidences", {"confidence": [0.5] * 5}, r"rules: confidence: expected 2 x 3 = 6 values, found 5"),
    ("confidence above 1", {"confidence": [0.5] * 5 + [1.1]}, r"rules: confidence: values must be 0\.\.1"),
    ("confidence below 0", {"confidence": [0.5] * 5 + [-0.1]}, r"rules: confidence: values must be 0\.\.1"),
    (
        "confidence that is none",
        {"confidence": [0.5] * 5 + [float("nan")]},
        r"rules: confidence: values must be 0\.\.1",
    ),
    ("arrays that are nowhere", {"arrays": "no.npz"}, r"rules: arrays: .*no\.npz: cannot be read: No such file"),
    ("number as name", {"class_names": ["main 0", 5]}, r"rules\.class_names: expected string_array, found 5"),
    ("ids past 64 bits", {"table": [0, 2**200]}, r"rules\.table: expected integer_array, found 16069380442589902755"),
    (
        "images past 64 bits",
        {"provenance.images": 2**63},
        r"rules\.provenance\.images: expected integer, found 9223372",
    ),
    (
        "confidence past all",
        {"confidence": [10**400] * 6},
        r"rules\.confidence: expected double_array, found an integer",
    ),
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
    for beyond in (4, 9):
        with pytest.raises(ConfigError, match=rf"table: ids must be 0\.\.3, found {beyond}"):
            replace(rules, table=np.full((2, 3), beyond, np.uint8))
    with pytest.raises(ConfigError, match="confidence: expected 2 x 3 values, found 3 x 2"):
        replace(rules, confidence=rules.confidence.T)


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
    assert_same_rules(Rules.from_parameters(values, tmp_path), rules)
