"""The check of the parameters a user gave. ROS itself is not needed here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from classaug_ros.errors import SHOWN, ConfigError, quoted
from classaug_ros.node.cameras import Turns
from classaug_ros.node.parameter_table import RULES, TABLE, camera_of, rows
from classaug_ros.pipeline.gpu_options import GpuOptions
from classaug_ros.rules.decision import Decision

_CAMERA_NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")
_TOLD = 20  # problems, in one line
_STANDARD = ("use_sim_time", "start_type_description_service")
_STANDARD_PREFIX = "qos_overrides."
_DECISION = tuple(field.name for field in fields(Decision))


@dataclass(frozen=True)
class CameraSettings:
    """One camera: its name, the topic of its images, how they come (``raw`` or ``compressed``), and its turns."""

    name: str
    image_topic: str
    image_transport: str
    turns: Turns


@dataclass(frozen=True)
class Settings:
    """The checked parameters.

    ``rules_files`` are in the order of ``sub_models``; there is none when the ``rules`` parameters are to be used.
    """

    cameras: tuple[CameraSettings, ...]
    main_model: Path
    sub_models: tuple[Path, ...]
    rules_files: tuple[Path, ...]
    rules: Mapping[str, object]
    decision: Decision
    image_reliability: str
    image_depth: int
    overlay_alpha: float
    device: str
    gpu: GpuOptions
    threads: int
    concurrent: bool
    engine_timeout: float
    engine_reloads: int
    stale_after: float
    autostart: bool

    def tuned(self, changes: Mapping[str, Any]) -> Settings:
        """Return the settings with changed values of those parameters that may change with every frame.

        Args:
            changes: checked values by name; the other parameters among them are left as they are.
        """
        how = {name: changes[name] for name in _DECISION if name in changes}
        alpha = changes.get("overlay_alpha", self.overlay_alpha)
        return replace(self, decision=replace(self.decision, **how), overlay_alpha=alpha)


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
                f"parameter cameras: {quoted(name)} cannot be a camera name; expected letters, digits and single "
                "underscores, a letter first, and not 'rules' or 'qos_overrides'"
            )
        if names.count(name) > 1:
            raise ConfigError(f"parameter cameras: {quoted(name)} is named twice")
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
        more = f"; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
        raise ConfigError("; ".join(problems[:_TOLD]) + more)
    return _settings(cameras, values)


def _missing_or_contradictory(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with values that are each sound; those that are not are absent."""
    for row in TABLE:
        if row.required and values.get(row.name) == "":
            yield f"parameter {row.name} is not set; give it the model file, or its folder"
    from_parameters = any(name.startswith(RULES) and value is not None for name, value in values.items())
    subs, files = (_entries(values.get(name, "")) for name in ("sub_model", "rules_file"))
    if files and from_parameters:
        yield "rules_file and rules.* parameters are both given; give the rules in one of the two ways"
    elif from_parameters and len(subs) > 1:
        yield f"sub_model names {len(subs)} models, and rules.* are rules of one; name a file for each in rules_file"
    elif not from_parameters and values.get("rules_file") == "":
        yield "no rules: set rules_file, or give the file `classaug learn` wrote with --params-file"
    elif subs and files and len(subs) != len(files):
        yield (
            f"sub_model names {_count(subs, 'model')} and rules_file {_count(files, 'file')}; give one rules file per "
            "sub model, in the same order"
        )


def _settings(cameras: Sequence[str], values: Mapping[str, Any]) -> Settings:
    def paths(name: str) -> tuple[Path, ...]:
        return tuple(_path(name, entry) for entry in _entries(values[name]))

    return Settings(
        cameras=tuple(
            CameraSettings(
                name,
                values[f"{name}.image_topic"],
                values[f"{name}.image_transport"],
                Turns(values[f"{name}.priority"], values[f"{name}.max_rate"]),
            )
            for name in cameras
        ),
        main_model=paths("main_model")[0],
        sub_models=paths("sub_model"),
        rules_files=paths("rules_file"),
        rules={
            name.removeprefix(RULES): value
            for name, value in values.items()
            if name.startswith(RULES) and value is not None
        },
        decision=Decision(**{name: values[name] for name in _DECISION}),
        image_reliability=values["image_reliability"],
        image_depth=values["image_depth"],
        overlay_alpha=values["overlay_alpha"],
        device=values["device"],
        gpu=GpuOptions(
            precision=values["precision"],
            concurrent=values["concurrent"],
            graph=values["cuda_graph"],
            frames_in_flight=values["frames_in_flight"],
            batch=len(cameras) if values["batch_cameras"] else 1,
            timeout=values["engine_timeout"],
        ),
        threads=values["threads"],
        concurrent=values["concurrent"],
        engine_timeout=values["engine_timeout"],
        engine_reloads=values["engine_reloads"],
        stale_after=values["stale_after"],
        autostart=values["autostart"],
    )


def _path(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # no such user
        raise ConfigError(
            f"parameter {name} is {text!r:.80}, whose home folder is not known; write the path out"
        ) from error


def _entries(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the strings of a parameter that is one or several; none where it is empty."""
    if isinstance(value, tuple):
        return value
    return (value,) if value else ()


def _count(entries: tuple[str, ...], what: str) -> str:
    return f"{len(entries)} {what}{'s' * (len(entries) != 1)}"


def is_standard(name: str) -> bool:
    """Tell whether a parameter is one of those every ROS node has."""
    return name in _STANDARD or name.startswith(_STANDARD_PREFIX)


def unknown_parameter(name: str, known: Iterable[str]) -> str:
    """Say that a parameter does not exist, and which one may have been meant."""
    if not name.isprintable() or len(name) > SHOWN:
        return f"unknown parameter {quoted(name)}; see the table of parameters in docs/node.md"
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]}?" if close else "see the table of parameters in docs/node.md"
    owner = camera_of(name)
    if owner:
        hint = f"{hint} (cameras does not name {owner!r})"
    return f"unknown parameter {name}; {hint}"
