"""Rules: what `classaug learn` writes and the node reads, a table of labels and, beside it, weights of evidence."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from classaug_ros.errors import ConfigError, quoted
from classaug_ros.io import yamlfile
from classaug_ros.io.files import quoted_path, read_whole, write_all
from classaug_ros.io.yamlfile import read_mapping
from classaug_ros.models.labels import LabelMap, LabelSpace
from classaug_ros.rules.evidence import Evidence
from classaug_ros.rules.parameters import Provenance, as_yaml, checked, flatten
from classaug_ros.rules.table import constrain, cooccurrence, purity
from classaug_ros.rules.task import Task

FORMAT = 2
MAX_BYTES = 2**30
"""Largest arrays file read."""

_ARRAYS = re.compile(rb"\.[0-9a-f]{12}\.arrays\.npz")

Kind = Literal["table", "probability"]
KINDS: tuple[Kind, ...] = ("table", "probability")


@dataclass(frozen=True, eq=False)
class Rules:
    """The learned rules, of both kinds.

    Attributes:
        main_classes: names of the m main classes.
        sub_classes: names of the n sub classes.
        output: S_aug, the main classes under their own ids, then the added ones.
        sources: for each output class ``main`` or ``added``.
        table: m x n output ids, g(C_i, C_j); uint8, or uint16 past 255 output classes.
        confidence: m x n float32, how often each entry of the table was right, 0..1; 0 for a pair never seen.
        evidence: the probability rule; None where a model returns labels, which have no probabilities.
        kind: the one in use, ``table`` or ``probability``.
        provenance: models, task and data they were learned from.
    """

    main_classes: tuple[str, ...]
    sub_classes: tuple[str, ...]
    output: LabelSpace
    sources: tuple[str, ...]
    table: LabelMap
    confidence: NDArray[np.float32]
    evidence: Evidence | None
    kind: Kind
    provenance: Provenance

    def __post_init__(self) -> None:
        self._check_classes()
        self._check_table()
        if self.kind not in KINDS:
            raise ConfigError(f"kind: expected one of {', '.join(KINDS)}, found {quoted(self.kind)}")
        if self.evidence is not None:
            self.evidence.check(len(self.output), len(self.main_classes), len(self.sub_classes))
        elif self.kind == "probability":
            raise ConfigError("kind: probability needs arrays, and these rules have none; choose table, or learn again")

    def _check_classes(self) -> None:
        m = len(self.main_classes)
        if self.output.names[:m] != self.main_classes:
            raise ConfigError("class_names must start with main_classes in their order")
        expected = ("main",) * m + ("added",) * (len(self.output) - m)
        if self.sources != expected:
            raise ConfigError("class_sources must be 'main' for each main class, then 'added' for each further one")
        unknown = set(self.output.names[m:]).difference(self.sub_classes)
        if unknown:
            raise ConfigError(f"added class {quoted(min(unknown))} is not among sub_classes")

    def _check_table(self) -> None:
        m, n = len(self.main_classes), len(self.sub_classes)
        for name, array in (("table", self.table), ("confidence", self.confidence)):
            if array.shape != (m, n):
                raise ConfigError(f"{name}: expected {m} x {n} values, found {' x '.join(map(str, array.shape))}")
        if self.table.dtype != self.output.dtype:
            raise ConfigError(f"table: expected {self.output.dtype.name}, found {self.table.dtype}")
        if int(self.table.max()) >= len(self.output):
            raise ConfigError(f"table: ids must be 0..{len(self.output) - 1}, found {int(self.table.max())}")
        if not ((self.confidence >= 0) & (self.confidence <= 1)).all():
            raise ConfigError("confidence: values must be 0..1")

    def to_parameters(self, arrays: str = "", arrays_sha256: str = "") -> dict[str, Any]:
        """Return the rules as flat ROS parameters, named as in ``RULES_PARAMETERS``.

        Args:
            arrays: name of the file that holds the evidence, empty for rules without.
            arrays_sha256: that file's SHA-256, in hexadecimal.
        """
        values: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind,
            "main_classes": list(self.main_classes),
            "sub_classes": list(self.sub_classes),
            "class_names": list(self.output.names),
            "class_colors": [channel for color in self.output.colors for channel in color],
            "class_sources": list(self.sources),
            "table": self.table.ravel().tolist(),
            "confidence": [round(value, 3) for value in self.confidence.ravel().tolist()],
            "arrays": arrays,
            "arrays_sha256": arrays_sha256,
        }
        for name, value in asdict(self.provenance).items():
            values[f"provenance.{name}"] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_parameters(cls, values: Mapping[str, object], folder: Path = Path()) -> Rules:
        """Build rules from flat ROS parameters, named as in ``RULES_PARAMETERS``.

        Args:
            values: the parameters.
            folder: what the name of the arrays file is relative to.

        Raises:
            ConfigError: a parameter is missing, of another type, or does not fit the others; the arrays file is
                missing, or another than the parameters were written with.
        """
        if (found := values.get("format")) not in (None, FORMAT):  # first: another format's names and types may differ
            raise ConfigError(f"rules.format: expected {FORMAT}, found {quoted(found)}; learn the rules again")
        given = checked(values)
        provenance = {field.name: _as_field(given[f"provenance.{field.name}"]) for field in fields(Provenance)}
        shape = len(given["main_classes"]), len(given["sub_classes"])
        try:
            output = LabelSpace(tuple(given["class_names"]), _triples(given["class_colors"]))
            return cls(
                tuple(given["main_classes"]),
                tuple(given["sub_classes"]),
                output,
                tuple(given["class_sources"]),
                _table(given["table"], shape, output),
                _array(given["confidence"], "confidence", shape).astype(np.float32),
                _evidence(folder, given["arrays"], given["arrays_sha256"]),
                cast(Kind, given["kind"]),
                Provenance(**provenance),
            )
        except ConfigError as error:
            raise ConfigError(f"rules: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Rules:
        """Read a ROS 2 parameter file that ``save`` wrote, and the arrays beside it.

        Raises:
            ConfigError: a file is missing, is no parameter file with rules, or the rules are not sound.
        """
        parameters = _parameters(path)
        while True:
            try:
                return cls.from_parameters(parameters, path.parent)
            except ConfigError as error:  # noqa: PERF203 (once, as a rule)
                before, parameters = parameters, _parameters(path)
                # Other rules may have taken their place since, and their arrays that of the ones looked for.
                if parameters.get("arrays_sha256") == before.get("arrays_sha256"):
                    raise ConfigError(f"{path}: {error}") from None

    def save(self, path: Path) -> None:
        """Write the rules as a ROS 2 parameter file and, beside it, the arrays (.HASH.arrays.npz), whole or not at all.

        The arrays are named after their contents, so that whoever is ended between the two files, or writes them at the
        same time as another, leaves a parameter file with the arrays it was written with. Those of the rules that were
        there before are removed, unless a parameter file in the folder names them: a copy of those rules, or the same
        rules, saved again meanwhile.

        Raises:
            ConfigError: a file cannot be written.
        """
        files, arrays, sha256 = {}, "", ""
        if self.evidence is not None:
            data = self.evidence.to_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            arrays = path.with_suffix(f".{sha256[:12]}.arrays.npz").name
            files[path.with_name(arrays)] = data
        files[path] = as_yaml(self.to_parameters(arrays, sha256), len(self.sub_classes)).encode()
        before: set[str] = set()
        with suppress(ConfigError):
            before = _arrays_named(path)
        write_all(files)
        with suppress(ConfigError, OSError):  # a file that cannot be read may name them
            named = (_arrays_named(each) for each in {path, *path.parent.glob("*.yaml")})
            for suffix in before.difference(*named):
                path.with_suffix(suffix).unlink(missing_ok=True)


def derive(counts: NDArray[np.int64], task: Task, provenance: Provenance, evidence: Evidence | None = None) -> Rules:
    """Derive the rules of a task from counted triples.

    Args:
        counts: m x n x n int64, see ``cooccurrence``.
        task: the similar sets and added classes.
        provenance: where the counts come from; its ``min_support`` is the one used.
        evidence: the probability rule fitted for the task, which then is the kind in use.
    """
    sources = ("main",) * len(task.main) + ("added",) * len(task.added)
    table = constrain(cooccurrence(counts, provenance.min_support), task)
    confidence = purity(counts, table, task).astype(np.float32)
    kind: Kind = "table" if evidence is None else "probability"
    names = task.main.names, task.sub.names
    return Rules(*names, task.output, sources, table, confidence, evidence, kind, provenance)


def _arrays_named(path: Path) -> set[str]:
    """Return the suffixes of all arrays that a parameter file names; what comes before may be written in many ways.

    Raises:
        ConfigError: the file cannot be read.
    """
    return {found.decode() for found in _ARRAYS.findall(read_whole(path, yamlfile.MAX_BYTES))}


def _parameters(path: Path) -> dict[str, object]:
    """Return the flat parameters of the rules in a ROS 2 parameter file.

    Raises:
        ConfigError: the file is missing, or is no parameter file with rules.
    """
    for node in read_mapping(path).values():
        parameters = node.get("ros__parameters") if isinstance(node, dict) else None
        if isinstance(parameters, dict) and "rules" in parameters:
            return dict(flatten(parameters["rules"]))
    raise ConfigError(f"{path}: no rules in it; expected a ROS parameter file written by `classaug learn`")


def _evidence(folder: Path, name: str, sha256: str) -> Evidence | None:
    if not name:
        return None
    path = folder / name
    try:
        data = read_whole(path.absolute(), MAX_BYTES)
    except ConfigError as error:
        raise ConfigError(f"arrays: {error}; it was written beside the rules, keep both together") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ConfigError(
            f"arrays: {quoted_path(path)} is not the file these rules were written with (SHA-256 {found[:12]}, "
            f"expected {quoted(sha256[:12])[1:-1]}); learn the rules again"
        )
    try:
        return Evidence.from_bytes(data)
    except ConfigError as error:
        raise ConfigError(f"arrays: {quoted_path(path)} {error}") from None


def _as_field(value: object) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _triples(flat: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    if len(flat) % 3:
        raise ConfigError(f"class_colors: expected three values per class, found {len(flat)} values")
    return tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3))


def _array(flat: Sequence[float], name: str, shape: tuple[int, int]) -> NDArray[Any]:
    m, n = shape
    if len(flat) != m * n:
        raise ConfigError(f"{name}: expected {m} x {n} = {m * n} values, found {len(flat)}")
    return np.array(flat).reshape(shape)


def _table(flat: Sequence[int], shape: tuple[int, int], output: LabelSpace) -> LabelMap:
    values = _array(flat, "table", shape)
    if min(flat) < 0 or max(flat) >= len(output):
        raise ConfigError(f"table: ids must be 0..{len(output) - 1}, found {min(flat)}..{max(flat)}")
    return values.astype(output.dtype)
