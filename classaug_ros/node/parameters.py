"""Every parameter of the node in one table, and the check of what a user gave. ROS itself is not needed here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from classaug_ros.errors import ConfigError
from classaug_ros.rules import RULES_PARAMETERS

Kind = Literal["bool", "integer", "double", "string", "string_array", "integer_array"]

_CAMERA = "<camera>"
_CAMERA_NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")
_RULES = "rules."
_STANDARD = ("use_sim_time", "start_type_description_service")
_STANDARD_PREFIX = "qos_overrides."
_ITEM_TYPES: dict[str, type] = {"bool": bool, "integer": int, "double": float, "string": str}


@dataclass(frozen=True)
class Row:
    """One parameter.

    Attributes:
        name: ROS name; ``<camera>`` stands for the name of each camera.
        kind: ROS type.
        default: value when none is given; ``<camera>`` is replaced in it; None means not set.
        description: what it does, with its unit.
        minimum, maximum: smallest and largest number allowed.
        choices: the strings allowed, when there are only some.
        required: configuration stops without it.
        read_only: cannot change from configuration to clean-up.
    """

    name: str
    kind: Kind
    default: Any
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    read_only: bool = True

    def for_camera(self, camera: str) -> Row:
        """Return the row of one camera."""
        default = self.default.replace(_CAMERA, camera) if isinstance(self.default, str) else self.default
        return replace(self, name=self.name.replace(_CAMERA, camera), default=default)

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        words = {"integer": "an integer", "double": "a number", "bool": "true or false", "string": "a string"}
        text = words.get(self.kind, f"a list of {self.kind.removesuffix('_array')}s")
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is None or self.maximum is None:
            return text
        return f"{text} from {self.minimum:g} to {self.maximum:g}"

    def check(self, value: Any) -> Any:
        """Return the value in the row's type (an integer given for a double becomes one; arrays become tuples).

        Raises:
            ConfigError: the value is of another type, out of range, or none of the choices.
        """
        array = self.kind.endswith("_array")
        if self.kind == "double" and type(value) is int:
            value = float(value)
        if array and not isinstance(value, str) and isinstance(value, Iterable):
            value = tuple(value)
        elif array:
            raise self._error(value)
        item = _ITEM_TYPES[self.kind.removesuffix("_array")]
        # The very type: to Python, true is an integer.
        if any(type(entry) is not item for entry in (value if array else (value,))) or not self._allows(value):
            raise self._error(value)
        return value

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return self.minimum is None or self.maximum is None or self.minimum <= value <= self.maximum

    def _error(self, value: Any) -> ConfigError:
        shown = list(value) if isinstance(value, tuple) else value
        return ConfigError(f"parameter {self.name} is {shown!r:.80}; expected {self.expected}")


TABLE: tuple[Row, ...] = (
    Row("main_model", "string", "", "Main model: the model file, or its folder.", required=True),
    Row("sub_model", "string", "", "Sub model: the model file, or its folder.", required=True),
    Row(
        "rules_file",
        "string",
        "",
        "Rules written by `classaug learn`. Empty: the rules.* parameters are used, as `--params-file rules.yaml` "
        "gives them. Read again at ~/reload_rules.",
        read_only=False,
    ),
    Row("cameras", "string_array", ("camera",), "Names of the cameras; each has its own topics."),
    Row(
        "<camera>.image_topic",
        "string",
        "/<camera>/image_raw",
        "Images of this camera. With compressed transport <image_topic>/compressed is read.",
    ),
    Row(
        "<camera>.image_transport",
        "string",
        "raw",
        "raw reads sensor_msgs/Image, compressed reads sensor_msgs/CompressedImage (JPEG or PNG).",
        choices=("raw", "compressed"),
    ),
    Row(
        "image_reliability",
        "string",
        "best_effort",
        "Reliability asked of the cameras; best_effort also reads from reliable publishers.",
        choices=("best_effort", "reliable"),
    ),
    Row("image_depth", "integer", 5, "Images the middleware keeps until the node takes them.", 1, 100),
    Row(
        "overlay_alpha",
        "double",
        0.5,
        "Share of the class colours in the overlay: 0 is the image alone, 1 the colours alone.",
        0.0,
        1.0,
        read_only=False,
    ),
    Row("threads", "integer", 0, "Processor cores used by both models together; 0 is all of them.", 0, 256),
    Row("concurrent", "bool", True, "Run both models at once, with the cores divided between them."),
    Row(
        "stale_after",
        "double",
        2.0,
        "Seconds without a frame from a camera until its diagnostics warn.",
        0.1,
        3600.0,
    ),
    Row("autostart", "bool", True, "Configure and activate at start, without a lifecycle manager."),
)
"""The node's parameters; ``rules.*`` come from ``RULES_PARAMETERS``, for a rules file given as parameters."""

_RULES_ROWS = tuple(
    Row(
        _RULES + name, cast(Kind, kind), None, "Part of the learned rules; taken up at ~/reload_rules.", read_only=False
    )
    for name, kind in RULES_PARAMETERS
)


@dataclass(frozen=True)
class CameraSettings:
    """One camera: its name, the topic of its images and how they come (``raw`` or ``compressed``)."""

    name: str
    image_topic: str
    image_transport: str


@dataclass(frozen=True)
class Settings:
    """The checked parameters. ``rules_file`` is None when the ``rules`` parameters are to be used."""

    cameras: tuple[CameraSettings, ...]
    main_model: Path
    sub_model: Path
    rules_file: Path | None
    rules: Mapping[str, object]
    image_reliability: str
    image_depth: int
    overlay_alpha: float
    threads: int
    concurrent: bool
    stale_after: float
    autostart: bool


def rows(cameras: Iterable[str]) -> dict[str, Row]:
    """Return every parameter of a node with these cameras, by name."""
    names = tuple(cameras)
    expanded: dict[str, Row] = {}
    for row in (*TABLE, *_RULES_ROWS):
        for each in (row.for_camera(name) for name in names) if _CAMERA in row.name else (row,):
            expanded[each.name] = each
    return expanded


def camera_names(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names in ``cameras``.

    Raises:
        ConfigError: it is no list of names, or a name is doubled or cannot be part of a topic and a parameter.
    """
    row = next(row for row in TABLE if row.name == "cameras")
    names: tuple[str, ...] = row.check(given.get("cameras", row.default))
    if not names:
        raise ConfigError("parameter cameras is empty; expected at least one camera name")
    for name in names:
        if not _CAMERA_NAME.fullmatch(name) or name in ("rules", "qos_overrides"):
            raise ConfigError(
                f"parameter cameras: {name!r} cannot be a camera name; expected letters, digits and single "
                "underscores, a letter first, and not 'rules' or 'qos_overrides'"
            )
        if names.count(name) > 1:
            raise ConfigError(f"parameter cameras: {name!r} is named twice")
    return names


def check(given: Mapping[str, Any]) -> Settings:
    """Check the parameters a user gave and fill in the defaults.

    Args:
        given: values by name; ROS's own parameters may be among them; None means not set.

    Raises:
        ConfigError: a name is unknown, a value wrong, one missing, or rules are given both as a file and as
            parameters. The one line names all that is wrong.
    """
    given = {name: value for name, value in given.items() if value is not None and not is_standard(name)}
    cameras = camera_names(given)
    table = rows(cameras)
    problems = [unknown_parameter(name, table) for name in given if name not in table]
    values: dict[str, Any] = {}
    for name, row in table.items():
        try:
            values[name] = row.check(given[name]) if name in given else row.default
        except ConfigError as error:  # noqa: PERF203 (each problem is named)
            problems.append(str(error))
    problems += _missing_or_contradictory(values)
    if problems:
        raise ConfigError("; ".join(problems))
    return _settings(cameras, values)


def _missing_or_contradictory(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with values that are each sound; those that are not are absent."""
    for row in TABLE:
        if row.required and values.get(row.name) == "":
            yield f"parameter {row.name} is not set; give it the model file, or its folder"
    from_parameters = any(name.startswith(_RULES) and value is not None for name, value in values.items())
    rules_file = values.get("rules_file")
    if rules_file and from_parameters:
        yield "rules_file and rules.* parameters are both given; give the rules in one of the two ways"
    if rules_file == "" and not from_parameters:
        yield "no rules: set rules_file, or give the file `classaug learn` wrote with --params-file"


def _settings(cameras: Iterable[str], values: Mapping[str, Any]) -> Settings:
    def path(name: str) -> Path:
        return Path(values[name]).expanduser()

    return Settings(
        cameras=tuple(
            CameraSettings(name, values[f"{name}.image_topic"], values[f"{name}.image_transport"]) for name in cameras
        ),
        main_model=path("main_model"),
        sub_model=path("sub_model"),
        rules_file=path("rules_file") if values["rules_file"] else None,
        rules={
            name.removeprefix(_RULES): value
            for name, value in values.items()
            if name.startswith(_RULES) and value is not None
        },
        image_reliability=values["image_reliability"],
        image_depth=values["image_depth"],
        overlay_alpha=values["overlay_alpha"],
        threads=values["threads"],
        concurrent=values["concurrent"],
        stale_after=values["stale_after"],
        autostart=values["autostart"],
    )


def is_standard(name: str) -> bool:
    """Tell whether a parameter is one of those every ROS node has."""
    return name in _STANDARD or name.startswith(_STANDARD_PREFIX)


def unknown_parameter(name: str, known: Iterable[str]) -> str:
    """Say that a parameter does not exist, and which one may have been meant."""
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]}?" if close else "see the table of parameters in docs/node.md"
    owner = name.removesuffix(".image_topic").removesuffix(".image_transport")
    if owner != name:
        hint = f"{hint} (cameras does not name {owner!r})"
    return f"unknown parameter {name}; {hint}"


def markdown_table() -> str:
    """Return the table of parameters as Markdown, for the documentation."""
    lines = ["| parameter | type | default | allowed | changes while configured | what it does |", "|" + "---|" * 6]
    for row in TABLE:
        default = "required" if row.required else f"`{_literal(row.default)}`"
        allowed = row.expected if row.choices or row.minimum is not None else ""
        change = "no" if row.read_only else "yes"
        lines.append(f"| `{row.name}` | {row.kind} | {default} | {allowed} | {change} | {row.description} |")
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value) or '""'
