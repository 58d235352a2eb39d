"""What is fuzzed: everything that reads bytes from outside, each as a function of bytes.

A function returns, or raises one of the package's own errors in one line of bounded length: ``try_out`` refuses all
else. Files are written to a folder of their own; an input of several files has ``SEPARATOR`` between them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice, zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from classaug_ros.data.bags import BagReader
from classaug_ros.data.dataset import IGNORED, Annotations, load_annotations, load_dataset
from classaug_ros.data.layouts import open_dataset
from classaug_ros.data.recordings import open_recording
from classaug_ros.errors import ClassaugError
from classaug_ros.evaluation.report.compare import load_runs, to_markdown
from classaug_ros.imaging.codecs import COLOR, decode_file
from classaug_ros.imaging.images import decode_compressed, decode_image
from classaug_ros.learning.counts import Counts
from classaug_ros.models.card import ModelCard
from classaug_ros.models.labels import LabelSpace
from classaug_ros.node.parameters import check
from classaug_ros.rules import Rules, RuleSet
from classaug_ros.rules.task import Task

SEPARATOR = b"\n=====\n"
LONGEST_LINE = 4000
MOST_FRAMES = 20
MOST_PATHS = 20
SHA256 = b"@SHA256@"  # in rules: that of the arrays, which no chance would find


def raw(data: bytes) -> None:
    """Decode an image message: a line of JSON with its fields, then its data."""
    head, _, rest = data.partition(b"\n")
    fields = _json(head)
    if isinstance(fields, dict):
        message = SimpleNamespace(height=1, width=1, step=3, is_bigendian=0, encoding="rgb8", data=rest)
        for name in ("height", "width", "step", "is_bigendian"):
            if type(value := fields.get(name)) is int and 0 <= value < 2**32:
                setattr(message, name, value)
        message.encoding = str(fields.get("encoding", "rgb8"))
        decode_image(message)


def compressed(data: bytes) -> None:
    """Decode a compressed image message: its format, then its data."""
    form, _, rest = data.partition(b"\n")
    decode_compressed(SimpleNamespace(format=form.decode("utf-8", "replace"), data=rest))


def rules(data: bytes) -> None:
    """Load rules with their arrays, and put them to use."""
    with _files(data, "rules.yaml", "x.npz") as folder:
        file = folder / "rules.yaml"
        sha256 = hashlib.sha256((folder / "x.npz").read_bytes()).hexdigest()
        file.write_bytes(file.read_bytes().replace(SHA256, sha256.encode()))
        loaded = Rules.load(file)
        json.dumps(RuleSet([loaded]).label_info())
        loaded.save(folder / "again.yaml")
        Rules.load(folder / "again.yaml")


def task(data: bytes) -> None:
    """Load a task with its classes."""
    with _files(data, "task.yaml", "main.csv", "sub.csv") as folder:
        loaded = Task.load(folder / "task.yaml")
        str((loaded.output, loaded.fingerprint))


def card(data: bytes) -> None:
    """Load a model card with its classes."""
    with _files(data, "model.yaml", "classes.csv") as folder:
        ModelCard.load(folder / "model.yaml")


def dataset(data: bytes) -> None:
    """Load a data set of one image, and read it."""
    with _files(data, "data.yaml", "classes.csv", "images/a.png", "labels/a.png") as folder:
        load_annotations(folder / "data.yaml")
        for example in islice(load_dataset(folder / "data.yaml"), MOST_FRAMES):
            str(example.name)


def layout(data: bytes) -> None:
    """Open a data set by name, its folder full of empty files whose paths are the lines after the first."""
    with _files(b"") as folder:
        first, *paths = data.decode("utf-8", "replace").split("\n")
        for path in paths[:MOST_PATHS]:
            parts = [part for part in path.split("/") if part not in ("", ".", "..") and "\0" not in part]
            file = folder.joinpath(*(part[:40] for part in parts[:5]))
            if parts and not file.exists() and all(not parent.is_file() for parent in file.parents):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.touch()
        name, colon, _ = first.partition(":")
        str(open_dataset(f"{name}:{folder}" if colon else str(folder / name.replace("/", ""))).fingerprint)


def annotation(data: bytes) -> None:
    """Read an annotation file, as class values and as colours."""
    classes = LabelSpace(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    with _files(data, "label.png") as folder:
        for values, colors in (({0: 0, 1: 1, 255: IGNORED}, False), ({0: 0, 0x0A141E: 1}, True)):
            try:
                Annotations("d", classes, values, colors=colors).read_label(folder / "label.png")
            except ClassaugError as error:
                _check_line(error)


def picture(data: bytes) -> None:
    """Decode an image file as it is, without its way through a message."""
    decode_file(np.frombuffer(data, np.uint8), COLOR)


def counts(data: bytes) -> None:
    """Load counts, and go through their samples."""
    with _files(data, "counts.npz") as folder:
        loaded = Counts.load(folder / "counts.npz")
        str((loaded.samples, loaded.images[:3], loaded.datasets, loaded.triples.sum()))


def report(data: bytes) -> None:
    """Load a report, and compare it with itself."""
    with _files(data, "report.json") as folder:
        to_markdown(load_runs([folder, folder / "report.json"]))


def parameters(data: bytes) -> None:
    """Check a node's parameters, given as JSON."""
    given = _json(data)
    if isinstance(given, dict):
        check(given)


def mcap_bag(data: bytes) -> None:
    """Read a bag: its metadata and an MCAP file."""
    _bag(data, "bag.mcap")


def sqlite_bag(data: bytes) -> None:
    """Read a bag: its metadata and an SQLite file."""
    _bag(data, "bag.db3")


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        raw,
        compressed,
        picture,
        annotation,
        rules,
        task,
        card,
        dataset,
        layout,
        counts,
        report,
        parameters,
        mcap_bag,
        sqlite_bag,
    )
}


def try_out(target: Callable[[bytes], None], data: bytes) -> None:
    """Run a target; raises whatever is a finding."""
    try:
        target(data)
    except ClassaugError as error:
        _check_line(error)


def _check_line(error: ClassaugError) -> None:
    text = str(error)
    if "\n" in text or not 0 < len(text) <= LONGEST_LINE:
        raise AssertionError(f"an error of {len(text)} characters: {text[:200]!r}")


def _bag(data: bytes, name: str) -> None:
    with _files(data, "metadata.yaml", name) as folder:
        for bag in (folder, folder / name):
            try:
                with BagReader(bag) as reader:
                    for message in islice(reader.messages(), MOST_FRAMES):
                        str(message.topic)
                recording = open_recording(bag)
                str((len(recording), recording.name))
                for example in islice(recording, MOST_FRAMES):
                    str(example.name)
            except ClassaugError as error:
                _check_line(error)


@contextmanager
def _files(data: bytes, *names: str) -> Iterator[Path]:
    """Write the parts of an input under these names; a missing part is an empty file."""
    folder = Path(tempfile.mkdtemp(prefix="classaug-fuzz-"))
    try:
        for name, part in zip_longest(names, data.split(SEPARATOR, max(len(names) - 1, 0)) if names else []):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(part or b"")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
