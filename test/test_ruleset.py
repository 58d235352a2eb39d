"""Rules of several sub models: the classes they give together, and what does not fit together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from classaug_ros.errors import ConfigError
from classaug_ros.models.labels import LabelSpace
from classaug_ros.rules import Provenance, Rules, RuleSet

PROVENANCE = Provenance("task", "main", "sub", ("set",), 3, 1234, 1, "0.1.0", "2026-01-02T03:04:05+00:00")
MAIN = ("road", "car")


def rules_of(*added: str, main: tuple[str, ...] = MAIN, shade: int = 0) -> Rules:
    """Rules that add classes, in colours of a shade."""
    names = (*main, *added)
    output = LabelSpace(names, tuple((number % 256, number // 256, shade) for number in range(len(names))))
    sub = ("street", *added)
    table = np.zeros((len(main), len(sub)), output.dtype)
    sources = ("main",) * len(main) + ("added",) * len(added)
    return Rules(main, sub, output, sources, table, np.zeros(table.shape, np.float32), None, "table", PROVENANCE)


def test_one_sub_model_s_rules_are_what_they_are() -> None:
    rules = rules_of("person", "bag")
    together = RuleSet([rules])
    assert together.rules == (rules,)
    assert (together.output, together.sources) == (rules.output, rules.sources)
    assert together.added.tolist() == [False, False, True, True]
    (ids,) = together.ids
    assert ids.dtype == np.uint8
    assert ids.tolist() == [0, 1, 2, 3]


def test_classes_of_one_name_are_one_class_with_the_first_one_s_colour() -> None:
    first, second = rules_of("person", "bag", shade=1), rules_of("tree", "person", "bicycle", shade=2)
    together = RuleSet([first, second, rules_of("bag", shade=3)])
    assert together.output.names == ("road", "car", "person", "bag", "tree", "bicycle")
    assert together.sources == ("main",) * 2 + ("added",) * 4
    assert [color[2] for color in together.output.colors] == [1, 1, 1, 1, 2, 2]
    assert [ids.tolist() for ids in together.ids] == [[0, 1, 2, 3], [0, 1, 4, 2, 5], [0, 1, 3]]
    for rules, ids in zip(together.rules, together.ids, strict=True):
        assert [together.output.names[number] for number in ids] == list(rules.output.names)


def test_together_past_255_classes_ids_have_16_bits() -> None:
    many = [rules_of(*(f"{part} {number}" for number in range(130))) for part in ("one", "two")]
    together = RuleSet(many)
    assert {rules.table.dtype for rules in many} == {np.dtype(np.uint8)}
    assert len(together.output) == 262
    assert {ids.dtype for ids in together.ids} == {np.dtype(np.uint16)}
    assert together.ids[1].max() == 261
    assert together.label_info()["unlabelled"] == 65535


def test_label_info_tells_every_class() -> None:
    info = RuleSet([rules_of("person", shade=1), rules_of("tree", shade=2)]).label_info()
    assert info == {
        "unlabelled": 255,
        "classes": [
            {"id": 0, "name": "road", "color": [0, 0, 1], "source": "main"},
            {"id": 1, "name": "car", "color": [1, 0, 1], "source": "main"},
            {"id": 2, "name": "person", "color": [2, 0, 1], "source": "added"},
            {"id": 3, "name": "tree", "color": [2, 0, 2], "source": "added"},
        ],
    }
    assert json.loads(json.dumps(info)) == info


def test_there_must_be_rules() -> None:
    with pytest.raises(ConfigError, match=r"^expected rules for at least one sub model, found none$"):
        RuleSet([])


@pytest.mark.parametrize(
    "other",
    [
        rules_of("tree", main=("road", "bus")),
        rules_of("tree", main=("car", "road")),
        replace(rules_of("tree"), provenance=replace(PROVENANCE, main_model="another")),
    ],
    ids=["other main classes", "in another order", "another main model of the same classes"],
)
def test_rules_of_other_main_models_do_not_go_together(other: Rules) -> None:
    with pytest.raises(ConfigError, match=r"^rules 3 were learned with another main model than the first; learn them"):
        RuleSet([rules_of("person"), rules_of("bag"), other])


def test_sub_models_and_tasks_differ_as_they_like() -> None:
    other = replace(rules_of("tree"), provenance=replace(PROVENANCE, sub_model="other", task="other", datasets=("x",)))
    assert RuleSet([rules_of("person"), other]).output.names == ("road", "car", "person", "tree")
