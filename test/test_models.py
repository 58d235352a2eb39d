"""Model cards and folders: what is read, what is refused, and what makes a model another."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from support.tinymodels import write_classes, write_model

from classaug_ros.errors import ConfigError
from classaug_ros.models.card import InputSpec, ModelCard, OutputSpec, load_model
from classaug_ros.models.engine_manifest import BuildOptions, EngineManifest, Machine, manifest_path

CLASSES = ("a", "b", "c")
PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "net", CLASSES, (6, 8), stride=2)


def change(folder: Path, key: str, value: Any) -> None:
    """Set one entry of a card; None removes it."""
    path = folder / "model.yaml"
    card = yaml.safe_load(path.read_text())
    section, _, leaf = key.rpartition(".")
    place = card[section] if section else card
    place[leaf] = value
    if value is None:
        del place[leaf]
    path.write_text(yaml.safe_dump(card))


def test_a_card_is_read_with_its_defaults(folder: Path) -> None:
    change(folder, "output.upsample", None)
    card = ModelCard.load(folder / "model.yaml")
    assert card.name == "net"
    assert card.classes.names == CLASSES
    assert card.input == InputSpec("image", 6, 8, "rgb", (0, 0, 0), (1, 1, 1))
    assert card.output == OutputSpec("result", "logits", 3, 4, "half_pixel")
    assert all(type(value) is float for value in card.input.mean + card.input.scale)


def test_a_full_card_is_read(folder: Path) -> None:
    for key, value in (("layout", "NCHW"), ("dtype", "float32"), ("color", "bgr"), ("mean", [1.5, 2, 3])):
        change(folder, f"input.{key}", value)
    change(folder, "output.upsample", "align_corners")
    card = ModelCard.load(folder / "model.yaml")
    assert (card.input.color, card.input.mean, card.output.upsample) == ("bgr", (1.5, 2.0, 3.0), "align_corners")


def test_a_model_is_found_by_its_folder_or_its_file(folder: Path) -> None:
    by_folder, by_file = load_model(folder), load_model(folder / "model.onnx")
    assert by_folder == by_file
    assert by_folder.path == folder / "model.onnx"


def test_a_card_can_be_named(folder: Path, tmp_path: Path) -> None:
    (folder / "model.yaml").rename(tmp_path / "card.yaml")
    write_classes(tmp_path / "classes.csv", CLASSES)
    assert load_model(folder, tmp_path / "card.yaml").card.classes.names == CLASSES
    with pytest.raises(ConfigError, match=f"^{folder}/model.onnx: no model card at {folder}/model.yaml; write one"):
        load_model(folder)
    with pytest.raises(ConfigError, match=f"no model card at {tmp_path}/no.yaml"):
        load_model(folder, tmp_path / "no.yaml")


def test_folders_without_one_model_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "other.onnx").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"net: expected one model file \(.onnx, .pt2, .engine\).*found model.onnx, other.onnx; name"
    ):
        load_model(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: expected one model file .* found none; name the file"):
        load_model(tmp_path / "empty")
    with pytest.raises(ConfigError, match="nowhere: no such model file or folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"model\.yaml: expected a model file ending in \.onnx, \.pt2, \.engine$"):
        load_model(folder / "model.yaml")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("place", ["model.onnx", "model.yaml"])
def test_a_folder_or_a_pipe_in_a_file_s_place_is_refused(folder: Path, place: str) -> None:
    (folder / place).unlink()
    os.mkfifo(folder / place)
    with pytest.raises(ConfigError, match=r"no such model file or folder|no model card at"):
        load_model(folder / "model.onnx")
    (folder / place).unlink()
    (folder / place).mkdir()
    with pytest.raises(ConfigError, match=r"found none; name the file|no model card at"):
        load_model(folder / "model.onnx")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without permission")
def test_a_model_in_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    """A folder that may not be looked into, so that nobody can tell whether the model is there."""
    closed = tmp_path / "closed"
    write_model(closed / "net", CLASSES, (4, 5))
    tmp_path.chmod(0o755)
    closed.chmod(0o700)
    program = """
import os, sys
from pathlib import Path
from classaug_ros.errors import ConfigError
from classaug_ros.models.card import load_model
os.chdir(sys.argv[1])
os.setuid(65534)
try:
    load_model(Path("closed/net/model.onnx"))
except ConfigError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout == "closed/net/model.onnx: cannot be read: Permission denied\n", done.stderr


@pytest.mark.parametrize("side", [0, 8193, 10**9, "0x" + "f" * 5000])
def test_sizes_that_no_image_has_are_refused(folder: Path, side: object) -> None:
    text = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(text.replace("height: 6", f"height: {side}"))
    with pytest.raises(ConfigError, match=r"input: height: expected at (least 1|most 8192), found"):
        load_model(folder)


def test_the_fingerprint_changes_with_weights_classes_and_meaning(folder: Path) -> None:
    def fingerprint() -> str:
        return load_model(folder).fingerprint

    seen = [fingerprint()]
    assert fingerprint() == seen[0]
    change(folder, "name", "another name")
    assert fingerprint() == seen[0]
    for key, value in (("input.mean", [0, 0, 1]), ("input.color", "bgr"), ("output.upsample", "asymmetric")):
        change(folder, key, value)
        seen.append(fingerprint())
    write_classes(folder / "classes.csv", ("a", "b", "d"))
    seen.append(fingerprint())
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\x00")
    seen.append(fingerprint())
    assert len(set(seen)) == 6


@pytest.mark.parametrize("name", ["weights.bin", "w" * 127, "w" * 128, "w" * 255], ids=len)
def test_the_fingerprint_changes_with_weights_in_a_file_of_their_own(name: str, folder: Path) -> None:
    whole = load_model(folder).fingerprint
    file = folder / "model.onnx"
    onnx.save(onnx.load(file), file, save_as_external_data=True, location=name, size_threshold=0)
    before = load_model(folder).fingerprint
    weights = folder / name
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    assert len({whole, before, load_model(folder).fingerprint}) == 3
    weights.unlink()
    load_model(folder)  # the engine refuses it


def test_the_fingerprint_does_not_depend_on_where_the_model_lies(folder: Path, tmp_path: Path) -> None:
    before = load_model(folder).fingerprint
    folder.rename(tmp_path / "moved")
    assert load_model(tmp_path / "moved").fingerprint == before


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", None, "name: expected str, found no such key"),
        ("name", 5, "name: expected str, found 5"),
        ("classes", None, "classes: expected str"),
        ("input", None, "input: expected dict"),
        ("output", None, "output: expected dict"),
        ("outputs", {}, "unknown key 'outputs'; expected some of classes, input, name, output"),
        ("input.size", 5, "input: unknown key 'size'; expected some of color, dtype, height"),
        ("input.name", None, "input: name: expected str"),
        ("input.height", None, "input: height: expected int"),
        ("input.height", 0, "input: height: expected at least 1, found 0"),
        ("input.width", "513", "input: width: expected int, found '513'"),
        ("input.width", 513.0, r"input: width: expected int, found 513\.0"),
        ("input.layout", "NHWC", "input: layout: expected one of NCHW, found 'NHWC'"),
        ("input.dtype", "uint8", "input: dtype: expected one of float32, found 'uint8'"),
        ("input.color", "RGB", "input: color: expected one of rgb, bgr, found 'RGB'"),
        ("input.mean", None, r"input: mean: expected three numbers, one per channel, found \[\]"),
        ("input.mean", [1, 2], r"input: mean: expected three numbers, one per channel, found \[1\.0, 2\.0\]"),
        ("input.mean", 127, "input: mean: expected list, found 127"),
        ("input.scale", [1, 0, 3], "input: scale: expected no 0, which makes all images one, found .*0"),
        ("input.scale", [1, 2, "3"], "input: scale: expected a list of float, found '3'"),
        ("input.scale", [1, 2, True], "input: scale: expected a list of float, found True"),
        ("input.scale", [1, 2, float("nan")], "input: scale: expected three numbers, one per channel, found .*nan"),
        ("input.mean", [1, 2, float("inf")], "input: mean: expected three numbers, one per channel, found .*inf"),
        ("output.name", None, "output: name: expected str"),
        ("output.kind", None, "output: kind: expected str"),
        ("output.kind", "softmax", "output: kind: expected one of logits, probabilities, labels, found 'softmax'"),
        ("output.height", -1, "output: height: expected at least 1, found -1"),
        ("output.upsample", "bilinear", "output: upsample: expected one of half_pixel, align_corners, asymmetric"),
    ],
)
def test_mistakes_in_a_card_name_file_and_key(folder: Path, key: str, value: object, message: str) -> None:
    change(folder, key, value)
    with pytest.raises(ConfigError, match=f"^{folder}/model.yaml: {message}"):
        load_model(folder)


def test_a_missing_classes_file_is_named(folder: Path) -> None:
    change(folder, "classes", "no.csv")
    with pytest.raises(ConfigError, match=f"^{folder}/no.csv: cannot be read: No such file"):
        load_model(folder)


# Programs and engines


def with_engine(folder: Path) -> Path:
    """Write an engine beside a model, with its manifest; nothing is in it, and nothing looks into it here."""
    made = load_model(folder)
    engine = folder / "model.engine"
    engine.write_bytes(b"an engine")
    digest = hashlib.sha256(b"an engine").hexdigest()
    manifest = EngineManifest(
        "model.onnx", made.fingerprint, made.card.fingerprint, BuildOptions(), Machine("tensorrt 10.3.0"), digest
    )
    manifest_path(engine).write_bytes(manifest.text())
    return engine


def test_a_program_has_a_fingerprint_of_its_own(folder: Path) -> None:
    onnx_model = load_model(folder)
    (folder / "model.onnx").rename(folder / "model.pt2")
    program = load_model(folder)
    assert program.path == folder / "model.pt2"
    assert program.fingerprint == onnx_model.fingerprint  # the same bytes
    program.path.write_bytes(program.path.read_bytes() + b"\n\x08location\x12\x0amodel.yaml")  # no external data
    assert load_model(folder).fingerprint != program.fingerprint


def test_a_folder_with_two_kinds_of_model_is_ambiguous(folder: Path) -> None:
    (folder / "model.pt2").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"found model\.onnx, model\.pt2; name the file$"):
        load_model(folder)


def test_an_engine_takes_the_place_of_the_model_it_was_built_from(folder: Path) -> None:
    original = load_model(folder)
    engine = with_engine(folder)
    assert load_model(folder) == original
    assert load_model(engine) == replace(original, path=engine)
    original.path.unlink()
    change(folder, "name", "another name")
    assert load_model(folder).fingerprint == original.fingerprint


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda engine: manifest_path(engine).unlink(),
            "there is no model.engine.yaml beside it, which tells what the engine was built from; bring both, or",
        ),
        (
            lambda engine: engine.write_bytes(b"an Engine"),
            "is not the engine that model.engine.yaml tells of, it is damaged or another; build it again by",
        ),
        (
            lambda engine: change(engine.parent, "input.mean", [0, 0, 1]),
            "its model card has changed since it was built; build it again by `classaug build-engine` from 'model.onnx",
        ),
        (
            lambda engine: write_classes(engine.with_name("classes.csv"), ("a", "b", "d")),
            "its model card has changed since it was built; build it again by",
        ),
    ],
    ids=["no manifest", "another engine", "another card", "other classes"],
)
def test_an_engine_that_is_not_its_manifest_s_is_refused(
    spoil: Callable[[Path], object], message: str, folder: Path
) -> None:
    engine = with_engine(folder)
    spoil(engine)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{engine}: {message}')}"):
        load_model(engine)


def test_a_malformed_manifest_is_named(folder: Path) -> None:
    engine = with_engine(folder)
    manifest_path(engine).write_text("model: 5")
    with pytest.raises(ConfigError, match=rf"^{engine}\.yaml: batch: expected three numbers, found 0$"):
        load_model(engine)
