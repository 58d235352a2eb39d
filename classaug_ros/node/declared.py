"""The node's parameters in ROS: declared from the table, checked whenever they change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from classaug_ros.errors import ConfigError
from classaug_ros.node.parameter_table import ONE_OR_SEVERAL, Row, camera_of, rows
from classaug_ros.node.parameters import Settings, camera_names, check, is_standard, unknown_parameter


class NodeParameters:
    """The table's parameters on a node.

    What the user gave wrong (unknown names, wrong types) is declared as it is, so that a node can be built with
    it, say what is wrong when it is configured, and be put right through the parameter services. What has no default
    (``rules.*``) is declared once it is given: rclpy answers a request for many parameters with nothing at all where
    one of them has no value, so that `ros2 param dump` would give nothing.
    """

    def __init__(self, node: Node) -> None:
        """Declare the parameters.

        Args:
            node: made with ``automatically_declare_parameters_from_overrides=True``, which tells what was given, and
                with ``allow_undeclared_parameters=True``.
        """
        self._node = node
        self._agree: Callable[[Mapping[str, Any]], object] | None = None
        self._declare()
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._after_set)

    @property
    def autostart(self) -> bool:
        """Whether the node starts itself; true also when the value is wrong, so that configuring says so."""
        return self._node.get_parameter("autostart").value is not False

    def settings(self) -> Settings:
        """Return the current values, checked.

        Raises:
            ConfigError: see ``check``.
        """
        return check(self._values())

    def freeze(self, agree: Callable[[Mapping[str, Any]], object]) -> None:
        """Refuse changes of read-only parameters from now on, and of others where ``agree`` does not.

        Args:
            agree: takes new values by name; raises ConfigError where they contradict what is configured.
        """
        self._agree = agree

    def thaw(self) -> None:
        """Allow every change again."""
        self._agree = None

    def _values(self) -> dict[str, Any]:
        return {name: parameter.value for name, parameter in self._node.get_parameters_by_prefix("").items()}

    def _rows(self) -> dict[str, Row]:
        try:
            return rows(camera_names(self._values()))
        except ConfigError:
            return rows(())

    def _declare(self) -> None:
        values, table = self._values(), self._rows()
        for name, value in values.items():
            if name not in table and not is_standard(name):
                self._redeclare(name, value, ParameterDescriptor(description="unknown", dynamic_typing=True))
        for name, row in table.items():
            if name not in values:
                self._declare_default(row)
                continue
            try:
                self._redeclare(name, row.check(values[name]), _descriptor(row))
            except ConfigError:
                wrong = ParameterDescriptor(description=row.description, dynamic_typing=True)
                self._redeclare(name, values[name], wrong)

    def _declare_default(self, row: Row) -> None:
        if row.default is not None:
            self._node.declare_parameter(row.name, row.default, _descriptor(row))

    def _redeclare(self, name: str, value: Any, descriptor: ParameterDescriptor) -> None:
        self._node.undeclare_parameter(name)
        self._node.declare_parameter(name, value, descriptor, ignore_override=True)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            self._check_changes(parameters)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _check_changes(self, parameters: list[Parameter]) -> None:
        table = self._rows()
        changes = {}
        for parameter in parameters:
            row = table.get(parameter.name)
            if row is None:
                if not self._node.has_parameter(parameter.name) and not is_standard(parameter.name):
                    raise ConfigError(unknown_parameter(parameter.name, table))
                continue
            if parameter.type_ == Parameter.Type.NOT_SET:
                raise ConfigError(f"parameter {row.name} cannot be deleted; expected {row.expected}")
            if row.read_only and self._agree is not None:
                raise ConfigError(
                    f"parameter {row.name} is fixed while the node is configured; clean the node up first"
                )
            changes[row.name] = row.check(parameter.value)
        if self._agree is not None:
            self._agree(changes)

    def _after_set(self, parameters: list[Parameter]) -> None:
        """Give new cameras their parameters, and take those of cameras that went."""
        if not any(parameter.name == "cameras" for parameter in parameters):
            return
        table = self._rows()
        for name in self._values():
            if name not in table and camera_of(name):
                self._node.undeclare_parameter(name)
        for name, row in table.items():
            if not self._node.has_parameter(name):
                self._declare_default(row)


_TYPES = {
    "bool": Parameter.Type.BOOL,
    "integer": Parameter.Type.INTEGER,
    "double": Parameter.Type.DOUBLE,
    "string": Parameter.Type.STRING,
    "string_array": Parameter.Type.STRING_ARRAY,
    "integer_array": Parameter.Type.INTEGER_ARRAY,
    "double_array": Parameter.Type.DOUBLE_ARRAY,
}


def _descriptor(row: Row) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=row.description)
    constraints = []
    if row.kind == ONE_OR_SEVERAL:
        descriptor.dynamic_typing = True  # of several types, which ROS has no other name for
    else:
        descriptor.type = _TYPES[row.kind].value
    if row.choices or row.kind == ONE_OR_SEVERAL:
        constraints.append(row.expected)
    if row.read_only:
        constraints.append("cannot change while the node is configured")
    descriptor.additional_constraints = "; ".join(constraints)
    if row.minimum is not None and row.maximum is not None:
        if row.kind == "integer":
            descriptor.integer_range = [IntegerRange(from_value=int(row.minimum), to_value=int(row.maximum))]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=row.minimum, to_value=row.maximum)]
    return descriptor
