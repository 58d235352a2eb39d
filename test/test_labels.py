"""LabelSpace: ids, types, palette, classes.csv and its mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from classaug_ros.errors import ConfigError
from classaug_ros.models.labels import LabelSpace

HEADER = "id,name,r,g,b\n"
CONFIG = Path(__file__).resolve().parent.parent / "config" / "classes"


def space(count: int) -> LabelSpace:
    return LabelSpace(tuple(f"class {i}" for i in range(count)), tuple((i % 256, 1, 2) for i in range(count)))


@pytest.mark.parametrize(
    ("count", "dtype", "unlabelled"),
    [(1, np.uint8, 255), (255, np.uint8, 255), (256, np.uint16, 65535), (65535, np.uint16, 65535)],
)
def test_type_and_unlabelled_id_by_number_of_classes(count: int, dtype: type, unlabelled: int) -> None:
    classes = space(count)
    assert len(classes) == count
    assert classes.dtype == np.dtype(dtype)
    assert classes.unlabelled == unlabelled
    assert count - 1 < unlabelled
    palette = classes.palette()
    assert palette.shape == (unlabelled + 1, 3)
    assert palette.dtype == np.uint8
    assert [tuple(color) for color in palette[:count].tolist()] == list(classes.colors)
    assert not palette[count:].any()


@pytest.mark.parametrize("count", [0, 65536])
def test_number_of_classes_is_bounded(count: int) -> None:
    with pytest.raises(ConfigError, match=f"expected 1 to 65535 classes, found {count}"):
        space(count)


@pytest.mark.parametrize(
    ("names", "colors", "message"),
    [
        (("a", "b", "a"), ((0, 0, 0),) * 3, "class 'a' is given twice"),
        (("a", ""), ((0, 0, 0),) * 2, "class name '' is empty"),
        ((" a",), ((0, 0, 0),), "class name ' a' is empty, or has spaces around it or control characters in it"),
        (("a", "b"), ((0, 0, 0),), r"one colour per class \(2\), found 1"),
        (("a",), ((0, 256, 0),), r"class 'a': colour \(0, 256, 0\)"),
        (("a",), ((-1, 0, 0),), r"class 'a': colour \(-1, 0, 0\)"),
        (("a\nb",), ((0, 0, 0),), r"class name 'a\\nb'"),
        (("a\x7fb",), ((0, 0, 0),), r"class name 'a\\x7fb'"),
        (("a\u2028b",), ((0, 0, 0),), r"class name 'a\\u2028b'"),
    ],
)
def test_unsound_classes_are_refused(
    names: tuple[str, ...], colors: tuple[tuple[int, int, int], ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        LabelSpace(names, colors)


def test_index_of_a_name() -> None:
    classes = LabelSpace(("road", "car"), ((0, 0, 0), (1, 1, 1)))
    assert [classes.index(name) for name in classes.names] == [0, 1]
    with pytest.raises(ConfigError, match="unknown class 'Road'; expected one of: road, car"):
        classes.index("Road")


def test_a_csv_is_read_by_id(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEADER + '1,"desk, table",4,5,6\r\n0,straße,1,2,3\r\n\r\n').encode())
    assert LabelSpace.from_csv(path) == LabelSpace(("straße", "desk, table"), ((1, 2, 3), (4, 5, 6)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "line 1: expected the header id,name,r,g,b, found an empty file", id="empty"),
        pytest.param(
            "name,id,r,g,b\n", "line 1: expected the header id,name,r,g,b, found 'name,id,r,g,b'", id="header"
        ),
        pytest.param(HEADER, "expected 1 to 65535 classes, found 0", id="no classes"),
        pytest.param(HEADER + "0,a,1,2\n", r"line 2: expected 5 columns \(id,name,r,g,b\), found 4", id="columns"),
        pytest.param(HEADER + "0,a,1,2,x\n", "line 2: id, r, g and b must be integers, found '0,a,1,2,x'", id="text"),
        pytest.param(HEADER + "0,a,1,2,3\n0,b,1,2,3\n", "line 3: id 0 is given twice \\('a' and 'b'\\)", id="id twice"),
        pytest.param(HEADER + "0,a,1,2,3\n2,b,1,2,3\n", "ids must be 0..1 without gaps; 1 is missing", id="gap"),
        pytest.param(HEADER + "1,a,1,2,3\n2,b,1,2,3\n", "ids must be 0..1 without gaps; 0 is missing", id="from one"),
        pytest.param(HEADER + "-1,a,1,2,3\n0,b,1,2,3\n", "ids must be 0..1 without gaps; 1 is missing", id="negative"),
        pytest.param(HEADER + "0,a,1,2,3\n1,a,1,2,3\n", "class 'a' is given twice", id="name twice"),
        pytest.param(HEADER + "0,a,1,2,256\n", r"class 'a': colour \(1, 2, 256\)", id="colour"),
        pytest.param(HEADER + "0,,1,2,3\n", "class name '' is empty", id="no name"),
    ],
)
def test_mistakes_in_a_csv_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        LabelSpace.from_csv(path)


def test_a_csv_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{tmp_path}/no.csv: cannot be read: No such file"):
        LabelSpace.from_csv(tmp_path / "no.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ConfigError, match=f"^{tmp_path}/binary.csv: is not CSV text"):
        LabelSpace.from_csv(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("0,stra\xdfe,1,2,3\n".encode("latin-1"), "is not CSV text: .*utf-8", id="latin-1"),
        pytest.param(
            b"0,a\0b,1,2,3\n", r"(is not CSV text: line contains NUL|class name 'a\\x00b' is empty)", id="NUL"
        ),
        pytest.param(
            b"".join(b"%d,c%d,1,2,3\n" % (n, n) for n in range(70_000)), "expected 1 to 65535 classes", id="70000 lines"
        ),
        pytest.param(b"\n" * 9_000_000, "has 9000014 bytes, expected at most 8388608", id="9 MB"),
        pytest.param(b"1" * 5000 + b",a,1,2,3\n", "line 2: id, r, g and b must be integers", id="5000 digits"),
        pytest.param(
            b'0,"a\nb",x,2,3\n', r"line 2: id, r, g and b must be integers, found '0,a\\nb,x,2,3'", id="two lines"
        ),
    ],
)
def test_a_broken_csv_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "classes.csv"
    path.write_bytes(HEADER.encode() + content)
    with pytest.raises(ConfigError, match=f"^{path}: {message}") as raised:
        LabelSpace.from_csv(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "count"), [("cityscapes", 19), ("ade20k", 150)])
def test_the_shipped_classes_are_read(name: str, count: int) -> None:
    classes = LabelSpace.from_csv(CONFIG / f"{name}.csv")
    assert len(classes) == count
