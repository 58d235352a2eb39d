"""Data sets: samples, values, and every mistake in them."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.tinymodels import IGNORED, SUB_CLASSES, write_classes, write_dataset

from classaug_ros.data.dataset import Dataset, load_dataset
from classaug_ros.errors import ConfigError, ImageError

SIZE = (6, 9)
HEAD = "name: d\nimages: images\nlabels: labels\nclasses: classes.csv\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path, "d", 3, SIZE, seed=0)
    return tmp_path / "d"


def load(folder: Path, text: str) -> Dataset:
    (folder / "dataset.yaml").write_text(text, encoding="utf-8")
    return load_dataset(folder / "dataset.yaml")


def annotate(folder: Path, annotation: NDArray[Any], stem: str = "0000") -> Path:
    path = folder / "labels" / f"{stem}.png"
    assert cv2.imwrite(str(path), annotation)
    return path


def test_samples_are_read_in_name_order_with_their_truth(tmp_path: Path) -> None:
    file, images, truths = write_dataset(tmp_path, "drive", 3, SIZE, seed=1)
    dataset = load_dataset(file)
    assert dataset.name == "drive"
    assert [sample.name for sample in dataset.samples] == ["drive/0000", "drive/0001", "drive/0002"]
    assert dataset.present == tuple(range(len(SUB_CLASSES)))
    for sample in dataset.samples:
        frame, truth = dataset.read(sample)
        np.testing.assert_array_equal(frame.rgb(), images[sample.name])
        expected = truths[sample.name].copy()
        expected[expected == IGNORED] = 255
        assert truth.dtype == np.uint8
        np.testing.assert_array_equal(truth, expected)


def test_values_are_mapped_by_name(folder: Path) -> None:
    dataset = load(folder, HEAD + "map: {7: road, 9: road, 250: bag}\nignore: [0, 11]\n")
    annotate(folder, np.array([[7, 9, 250, 0, 11]], np.uint8))
    assert dataset.present == (0, 3)
    assert dataset.read(dataset.samples[0])[1].tolist() == [[0, 0, 3, 255, 255]]


def test_without_map_the_values_are_ids(folder: Path) -> None:
    dataset = load(folder, HEAD + "ignore: [1]\n")
    annotate(folder, np.array([[0, 1, 2, 3, 4]], np.uint8))
    assert dataset.present == (0, 2, 3, 4)
    assert dataset.read(dataset.samples[0])[1].tolist() == [[0, 255, 2, 3, 4]]


def test_annotations_of_16_bits(folder: Path) -> None:
    dataset = load(folder, HEAD + "map: {256: road, 65535: car, 3: bag}\nignore: [1000]\n")
    annotate(folder, np.array([[256, 65535, 3, 1000]], np.uint16))
    assert dataset.read(dataset.samples[0])[1].tolist() == [[0, 4, 3, 255]]


def test_truth_past_255_classes_has_16_bits(folder: Path) -> None:
    write_classes(folder / "classes.csv", [f"class {i}" for i in range(300)])
    dataset = load(folder, HEAD + "ignore: [400]\n")
    annotate(folder, np.array([[0, 255, 299, 400]], np.uint16))
    truth = dataset.read(dataset.samples[0])[1]
    assert truth.dtype == np.uint16
    assert truth.tolist() == [[0, 255, 299, 65535]]


def test_other_files_in_the_folders_do_not_matter(folder: Path) -> None:
    for name in ("images/notes.txt", "images/.0009.png", "labels/extra.png", "labels/Thumbs.db"):
        (folder / name).write_bytes(b"")
    assert len(load(folder, HEAD).samples) == 3


def test_endings_may_differ_and_be_upper_case(folder: Path) -> None:
    (folder / "images" / "0000.png").rename(folder / "images" / "0000.PNG")
    cv2.imwrite(str(folder / "images" / "0001.jpg"), np.zeros((*SIZE, 3), np.uint8))
    (folder / "images" / "0001.png").unlink()
    assert [sample.image.name for sample in load(folder, HEAD).samples] == ["0000.PNG", "0001.jpg", "0002.png"]


def test_the_fingerprint_tells_meanings_apart(folder: Path) -> None:
    texts = [
        HEAD,
        HEAD + "ignore: [9]\n",
        HEAD + "map: {0: road}\n",
        HEAD + "map: {0: car}\n",
        HEAD.replace("d\n", "e\n", 1),
    ]
    assert len({load(folder, text).fingerprint for text in texts}) == len(texts)
    in_full = ", ".join(f"{number}: {name}" for number, name in enumerate(SUB_CLASSES))
    assert load(folder, HEAD + f"map: {{{in_full}}}\n").fingerprint == load(folder, HEAD).fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "maps: {}\n", "unknown key 'maps'; expected some of classes, ignore, images, labels, map, name"),
        (HEAD.replace("name: d\n", ""), "name: expected str, found no such key"),
        (HEAD.replace("name: d\n", "name: 3\n"), "name: expected str, found 3"),
        (HEAD.replace("classes: classes.csv\n", ""), "classes: expected str"),
        (HEAD.replace("images: images\n", ""), "images: expected str"),
        (HEAD + "map: {0: lane}\n", "map: 0: no class 'lane'; expected one of: road, person"),
        (HEAD + "map: {0: 5}\n", "map: 0: no class 5; expected one of: road"),
        (HEAD + "map: {road: 0}\n", r"map: expected annotation values 0\.\.65535, found 'road'"),
        (HEAD + "map: {-1: road}\n", r"map: expected annotation values 0\.\.65535, found -1"),
        (HEAD + "map: {65536: road}\n", r"map: expected annotation values 0\.\.65535, found 65536"),
        (HEAD + "map: {yes: road}\n", r"map: expected annotation values 0\.\.65535, found True"),
        (HEAD + "map: {0: road, 0: car}\n", "line 5: '0' is given twice"),
        (HEAD + "map: [road]\n", r"map: expected dict, found \['road'\]"),
        (HEAD + "map: {0: road, 1: car}\nignore: [1]\n", "value 1 is both in `map` and in `ignore`; keep it in one"),
        (HEAD + "ignore: 255\n", "ignore: expected list, found 255"),
        (HEAD + "ignore: [x]\n", "ignore: expected a list of int, found 'x'"),
        (HEAD + "ignore: [-1]\n", r"ignore: expected annotation values 0\.\.65535, found -1"),
        (HEAD + "ignore: [70000]\n", r"ignore: expected annotation values 0\.\.65535, found 70000"),
    ],
)
def test_mistakes_in_the_file_name_file_and_key(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{folder}/dataset\.yaml: {message}"):
        load(folder, text)


def test_a_value_ignored_twice_is_ignored(folder: Path) -> None:
    dataset = load(folder, HEAD + "ignore: [9, 9]\n")
    annotate(folder, np.array([[0, 9]], np.uint8))
    assert dataset.read(dataset.samples[0])[1].tolist() == [[0, 255]]


def test_missing_and_empty_folders_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{folder}/pictures: cannot be read: No such file"):
        load(folder, HEAD.replace("images: images", "images: pictures"))
    with pytest.raises(ConfigError, match=f"^{folder}/truth: cannot be read: No such file"):
        load(folder, HEAD.replace("labels: labels", "labels: truth"))
    (folder / "none").mkdir()
    with pytest.raises(
        ConfigError, match=rf"^{folder}/none: expected a folder with \.jpeg, \.jpg, \.png files, found none$"
    ):
        load(folder, HEAD.replace("images: images", "images: none"))


def test_an_image_without_annotation_is_named(folder: Path) -> None:
    (folder / "labels" / "0001.png").unlink()
    with pytest.raises(
        ConfigError, match=f"^{folder}/images/0001.png: no annotation named 0001.png in {folder}/labels"
    ):
        load(folder, HEAD)


def test_images_that_differ_in_their_ending_alone_are_refused(folder: Path) -> None:
    (folder / "images" / "0001.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=f"^{folder}/images: two images have the same name but for the ending"):
        load(folder, HEAD)


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (np.array([[0, 77]], np.uint8), "value 77 is in neither `map` nor `ignore` of data set 'd'; add it to one"),
        (np.array([[0, 255]], np.uint8), "value 255 is in neither"),
        (np.array([[0, 65535]], np.uint16), "value 65535 is in neither"),
        (
            np.zeros((2, 2, 3), np.uint8),
            r"expected one channel of 8 or 16 bits, found shape \(2, 2, 3\) uint8; convert",
        ),
    ],
    ids=["unknown", "unlabelled by habit", "unlabelled by habit, 16 bits", "colours"],
)
def test_annotations_that_cannot_be_meant_are_named(folder: Path, annotation: NDArray[Any], message: str) -> None:
    dataset = load(folder, HEAD + "ignore: [9]\n")
    path = annotate(folder, annotation)
    with pytest.raises(ConfigError, match=f"^{path}: {message}"):
        dataset.read(dataset.samples[0])


def png(height: int, width: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG file of these rows, each with a byte before it."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))]
    parts += [(b"PLTE", bytes(range(6)))] if color == 3 else []
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(png(65535, 65535, 8, 0, b""), "expected 1 to 67108864 pixels", id="4 gigapixels"),
        pytest.param(png(2, 2, 8, 6, bytes(18)), "expected one channel of 8 or 16 bits, found shape", id="RGBA"),
        pytest.param(png(2, 2, 8, 0, b"\x00\x07"), "cannot be read as an image", id="a row missing"),
    ],
)
def test_annotations_of_other_kinds_are_refused(folder: Path, content: bytes, message: str) -> None:
    dataset = load(folder, HEAD + "ignore: [9]\n")
    (folder / "labels" / "0000.png").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{folder}/labels/0000\.png: .*{message}") as raised:
        dataset.read(dataset.samples[0])
    assert "\n" not in str(raised.value)


def test_links_in_a_circle_are_refused(folder: Path) -> None:
    for name in ("images", "labels"):
        shutil.rmtree(folder / name)
        (folder / name).symlink_to(folder / name)
    with pytest.raises(ConfigError, match=r"cannot be read: (Too many levels of symbolic links|Symlink loop)"):
        load(folder, HEAD)
    (folder / "classes.csv").unlink()
    (folder / "classes.csv").symlink_to(folder / "classes.csv")
    with pytest.raises(ConfigError, match=r"classes\.csv: cannot be read: Too many levels of symbolic links"):
        load(folder, HEAD)


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "cut off"])
def test_files_that_are_no_images_are_named(folder: Path, content: bytes | None) -> None:
    dataset = load(folder, HEAD + f"ignore: [{IGNORED}]\n")
    if content is None:
        whole = (folder / "labels" / "0001.png").read_bytes()
        content = whole[: len(whole) * 3 // 4]
    (folder / "images" / "0000.png").write_bytes(content)
    with pytest.raises(ImageError, match=rf"^{folder}/images/0000\.png: "):
        dataset.read(dataset.samples[0])
    (folder / "labels" / "0001.png").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{folder}/labels/0001\.png: cannot be read as an image"):
        dataset.read(dataset.samples[1])


def test_a_file_gone_since_is_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = load(folder, HEAD)
    (folder / "labels" / "0000.png").unlink()
    with pytest.raises(ConfigError, match=rf"^{folder}/labels/0000\.png: cannot be read"):
        dataset.read(dataset.samples[0])
    (folder / "images" / "0001.png").unlink()
    with pytest.raises(ImageError, match=rf"^{folder}/images/0001\.png: cannot be read: No such file"):
        dataset.read(dataset.samples[1])
    assert capfd.readouterr() == ("", "")
