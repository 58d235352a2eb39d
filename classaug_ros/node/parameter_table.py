"""Every parameter of the node in one table. ROS itself is not needed here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from classaug_ros.errors import ConfigError
from classaug_ros.models.engine_manifest import Precision
from classaug_ros.rules import RULES_PARAMETERS, Prefer

Kind = Literal[
    "bool", "integer", "double", "string", "string_array", "integer_array", "double_array", "string or string_array"
]
ONE_OR_SEVERAL: Kind = "string or string_array"

_CAMERA = "<camera>"
RULES = "rules."
_ITEM_TYPES: dict[str, type] = {"bool": bool, "integer": int, "double": float, "string": str}
_EXPECTED: dict[Kind, str] = {
    "bool": "true or false",
    "integer": "an integer",
    "double": "a number",
    "string": "a string",
    "string_array": "a list of strings",
    "integer_array": "a list of integers",
    "double_array": "a list of numbers",
    ONE_OR_SEVERAL: "a string, or a list of strings that are not empty",
}


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
        text = _EXPECTED[self.kind]
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is None or self.maximum is None:
            return text
        return f"{text} from {self.minimum:g} to {self.maximum:g}"

    def check(self, value: Any) -> Any:
        """Return the value in the row's type (integers given for doubles become such; arrays become tuples).

        Raises:
            ConfigError: the value is of another type, out of range, or none of the choices.
        """
        several = isinstance(value, Iterable) and not isinstance(value, str)
        entries = tuple(value) if several else (value,)
        item = _ITEM_TYPES[self.kind.rpartition(" ")[2].removesuffix("_array")]
        if item is float:
            entries = tuple(float(entry) if type(entry) is int else entry for entry in entries)
        checked = entries if several else entries[0]
        # The very type: to Python, true is an integer.
        if any(type(entry) is not item for entry in entries) or not self._allows(checked):
            raise self._error(entries if several else value)
        return checked

    def _allows(self, value: Any) -> bool:
        several = isinstance(value, tuple)
        if self.kind == ONE_OR_SEVERAL:
            return not several or (value != () and "" not in value)
        if several != self.kind.endswith("_array"):
            return False
        if self.choices:
            return value in self.choices
        return self.minimum is None or self.maximum is None or self.minimum <= value <= self.maximum

    def _error(self, value: Any) -> ConfigError:
        shown = list(value) if isinstance(value, tuple) else value
        return ConfigError(f"parameter {self.name} is {shown!r:.80}; expected {self.expected}")


TABLE: tuple[Row, ...] = (
    Row("main_model", "string", "", "Main model: the model file, or its folder.", required=True),
    Row(
        "sub_model",
        ONE_OR_SEVERAL,
        "",
        "Sub model: the model file, or its folder. Several: a list, in order of precedence.",
        required=True,
    ),
    Row(
        "rules_file",
        ONE_OR_SEVERAL,
        "",
        "Rules written by `classaug learn`; of several sub models a list, in the same order. Empty: the rules.* "
        "parameters are used, which `--params-file rules.yaml` gives for one sub model. Read again at ~/reload_rules.",
        read_only=False,
    ),
    Row(
        "prefer",
        "string",
        "evidence",
        "What decides which main class a pixel has, with rules of kind probability: evidence weighs both models, main "
        "leaves it to the main model. Rules of kind table always leave it to the main model.",
        choices=get_args(Prefer),
        read_only=False,
    ),
    Row(
        "min_confidence",
        "double",
        0.0,
        "Pixels less confident than this are left unlabelled; 0 labels all.",
        0.0,
        1.0,
        read_only=False,
    ),
    Row(
        "contours",
        "bool",
        False,
        "Let the labels follow the edges of the image; needs rules of kind probability.",
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
        "<camera>.priority",
        "integer",
        1,
        "Share of the turns when the cameras send more than can be worked on: 2 has twice as many as 1.",
        1,
        100,
    ),
    Row(
        "<camera>.max_rate",
        "double",
        0.0,
        "Frames of this camera worked on per second at most; 0 is no limit.",
        0.0,
        1000.0,
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
    Row(
        "device",
        "string",
        "cpu",
        "Where models and fusion run: cpu, or cuda: an NVIDIA GPU (of several the first of CUDA_VISIBLE_DEVICES).",
        choices=("cpu", "cuda"),
    ),
    Row(
        "precision",
        "string",
        "fp16",
        "Of the TensorRT engines that the node builds from ONNX models where device is cuda.",
        choices=get_args(Precision),
    ),
    Row("cuda_graph", "bool", True, "Launch all work of a frame on the GPU at once, as a CUDA graph."),
    Row(
        "frames_in_flight",
        "integer",
        2,
        "Frames on the GPU at once: with 2 one is uploaded while the one before is computed.",
        1,
        2,
    ),
    Row(
        "batch_cameras",
        "bool",
        False,
        "Run frames of several cameras that wait at once as one batch on the GPU; the models must take batches.",
    ),
    Row("threads", "integer", 0, "Processor cores used by all models together; 0 is all of them.", 0, 256),
    Row(
        "concurrent",
        "bool",
        True,
        "Run all models at once, with the cores divided among them, or each on a CUDA stream of its own.",
    ),
    Row(
        "engine_timeout",
        "double",
        10.0,
        "Seconds that a model has for a frame; then the frame is given up, and the models are loaded anew.",
        0.1,
        3600.0,
    ),
    Row(
        "engine_reloads",
        "integer",
        3,
        "How often models that hang or keep failing are loaded anew, without being well in between, until the node "
        "deactivates itself.",
        0,
        100,
    ),
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
    Row(RULES + name, cast(Kind, kind), None, "Part of the learned rules; taken up at ~/reload_rules.", read_only=False)
    for name, kind in RULES_PARAMETERS
)


def rows(cameras: Iterable[str]) -> dict[str, Row]:
    """Return every parameter of a node with these cameras, by name."""
    names = tuple(cameras)
    expanded: dict[str, Row] = {}
    for row in (*TABLE, *_RULES_ROWS):
        for each in (row.for_camera(name) for name in names) if _CAMERA in row.name else (row,):
            expanded[each.name] = each
    return expanded


def camera_of(name: str) -> str:
    """Return the camera that a parameter of this name belongs to; empty where none of its form does."""
    camera, _, last = name.rpartition(".")
    return camera if f"{_CAMERA}.{last}" in (row.name for row in TABLE) else ""


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
