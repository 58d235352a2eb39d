"""Class lists made of names alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classaug_ros.convert.classlists import SHIPPED, classes_named, colors, shipped_classes


@pytest.mark.parametrize("known", SHIPPED)
def test_shipped_lists_are_recognised_in_other_spellings(known: str) -> None:
    space = shipped_classes(known)
    spelt = [f" {name.title()}, something else" for name in space.names]
    spelt[3] = "another name altogether"
    assert classes_named(spelt) == (space, known)


def test_a_list_in_another_order_is_its_own() -> None:
    names = shipped_classes("cityscapes").names[::-1]
    space, known = classes_named(names)
    assert (space.names, known) == (names, None)


def test_names_become_unique() -> None:
    space, _ = classes_named(["a", "b ", "a", "", "c; d"])
    assert space.names == ("a 0", "b", "a 2", "class 3", "c")


@given(st.lists(st.text("a ,0", max_size=4), min_size=1, max_size=40))
def test_any_names_make_a_list(names: list[str]) -> None:
    space, _ = classes_named(names)
    assert len(space) == len(names)


@pytest.mark.parametrize("count", [1, 2, 19, 150, 400])
def test_colours_differ(count: int) -> None:
    made = colors(count)
    assert made == colors(count)
    assert len(set(made)) == count
    assert all(0 <= channel <= 255 for color in made for channel in color)
