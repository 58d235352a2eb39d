"""The lifecycle node: camera topics to augmented labels."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial, wraps
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from classaug_ros.errors import ClassaugError, ConfigError
from classaug_ros.node.background_task import BackgroundTask
from classaug_ros.node.camera_topics import OUTPUTS, CameraTopics, refuse_loops
from classaug_ros.node.declared import NodeParameters
from classaug_ros.node.diagnostics import WINDOW, Level, Status, camera_status
from classaug_ros.node.label_info import LabelInfoTopics
from classaug_ros.node.loaded import Loaded
from classaug_ros.node.watchdog import Watchdog
from classaug_ros.node.worker import Worker

NAME = "classaug_node"
CONFIGURED = ("inactive", "active")
"""States in which models and rules are loaded."""
DIAGNOSTICS_PERIOD = 1.0
"""Seconds between two diagnostics messages."""

_Transition = Callable[["ClassaugNode", LifecycleState], TransitionCallbackReturn]


def _reported(transition: _Transition) -> _Transition:
    """Log what a transition raises (rclpy keeps it to itself): a user's mistake fails it, a defect is an error."""

    @wraps(transition)
    def reported(node: ClassaugNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except ClassaugError as error:
            node.report(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception:  # noqa: BLE001 (told here, or never)
            node.report(traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return reported


class ClassaugNode(LifecycleNode):
    """Subscribes to cameras and publishes augmented labels, overlays and diagnostics.

    Configuring checks the parameters, loads models and rules and makes the publishers; activating starts the worker.
    The executor's thread only receives; the worker's threads run the models.
    """

    def __init__(self) -> None:
        super().__init__(NAME, automatically_declare_parameters_from_overrides=True, allow_undeclared_parameters=True)
        self._table = NodeParameters(self)
        self.add_post_set_parameters_callback(self._parameters_changed)
        self._state = "unconfigured"
        self._problem = ""
        self._cameras: dict[str, CameraTopics] = {}
        self._loaded: Loaded  # from configuration to clean-up
        self._label_info: LabelInfoTopics  # likewise
        self._worker: Worker | None = None
        self._undo_configure = ExitStack()
        self._undo_activate = ExitStack()
        # Transitions belong to the executor's thread: what another one wants is done by this.
        self._wake = self.create_guard_condition(self._deactivate_when_ended)
        # A group of its own: reading rules takes its time, and nothing else is to wait for it.
        group = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, "~/reload_rules", self._reload_rules, callback_group=group)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady time: diagnostics go on while simulated time stands still.
        self.create_timer(DIAGNOSTICS_PERIOD, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def start(self) -> None:
        """Configure and activate, unless the parameter autostart is false."""
        if self._table.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self) -> None:
        """Go to the state finalized from whichever state the node is in."""
        if self._state != "finalized":
            self.trigger_shutdown()

    def report(self, problem: str) -> None:
        """Log why a transition did not succeed, and keep it for the diagnostics."""
        self._problem = problem
        self.get_logger().error(problem)

    @_reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the parameters, load models and rules, make publishers."""
        self._problem = ""
        settings = self._table.settings()
        with ExitStack() as undo:
            loaded = Loaded.load(settings, self.get_logger().info)
            undo.callback(loaded.path.close)
            cameras = {}
            for camera in settings.cameras:
                topics = CameraTopics(self, camera, settings.image_reliability, settings.image_depth)
                undo.callback(topics.destroy)
                cameras[camera.name] = topics
            refuse_loops(cameras.values())
            self._label_info = LabelInfoTopics(self)
            undo.callback(self._label_info.destroy)
            self._table.freeze(self._agree)
            undo.callback(self._table.thaw)
            self._undo_configure = undo.pop_all()
        self._loaded, self._cameras = loaded, cameras
        self._state = "inactive"
        for line in loaded.in_short():
            self.get_logger().info(line)
        return super().on_configure(state)

    @_reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker and read the cameras whose results somebody wants."""
        super().on_activate(state)
        self._problem = ""
        log = self.get_logger().warning
        self._worker = Worker(
            self._loaded.path,
            self._loaded.config,
            self._cameras,
            log,
            Watchdog(self._loaded, self._loaded.settings.engine_reloads, log),
            self._wake.trigger,
        )
        self._undo_activate.callback(self._worker.stop)
        self._label_info.publish(self._loaded.rules)
        for name, topics in self._cameras.items():
            self._undo_activate.callback(topics.deactivate)
            topics.activate(self._worker.intake(name))
            self.get_logger().info(f"camera {name}: {topics.image_topic} -> ~/{name}/{', '.join(OUTPUTS)}")
        self._state = "active"
        self.get_logger().info("active")
        return TransitionCallbackReturn.SUCCESS

    @_reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker; a frame being worked on is still published, unless it takes too long."""
        self._stop_working()
        self._state = "inactive"
        return super().on_deactivate(state)

    @_reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything that configuring made."""
        self._release()
        self._problem = ""
        self._state = "unconfigured"
        return super().on_cleanup(state)

    @_reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and release everything, for good."""
        self._release()
        self._state = "finalized"
        return super().on_shutdown(state)

    @_reported
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a defect in a transition: release everything and be unconfigured."""
        self._release()
        self._state = "unconfigured"
        return super().on_error(state)

    def _deactivate_when_ended(self) -> None:
        """Deactivate the node once its watchdog has ended, and say why."""
        if self._worker is not None and (why := self._worker.watchdog.ended):
            self.trigger_deactivate()
            self.report(f"deactivated: {why}")

    def _stop_working(self) -> None:
        self._undo_activate.close()
        self._worker = None

    def _release(self) -> None:
        self._stop_working()
        self._cameras = {}
        self._undo_configure.close()

    async def _reload_rules(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            reloaded = await self._reloaded()
        except ClassaugError as error:
            response.message = f"the old rules stay in use: {error}"
            self.get_logger().error(response.message)
            return response
        renamed = reloaded.rules.label_info() != self._loaded.rules.label_info()
        self._use(reloaded)
        if self._worker is not None and renamed:
            self._label_info.publish(reloaded.rules)
        response.success = True
        response.message = "; ".join(reloaded.rules_in_short())
        self.get_logger().info(response.message)
        return response

    async def _reloaded(self) -> Loaded:
        """Return what is loaded, with rules read anew as its settings are when they are read.

        Raises:
            ConfigError: the rules are wrong, or the node is not configured.
        """
        while True:
            if self._state not in CONFIGURED:
                raise ConfigError(f"the node is {self._state}, and has none; configure it, and it reads them")
            before, settings = self._loaded, self._table.settings()
            try:
                reloaded = await BackgroundTask(partial(before.reloaded, settings))
            except Exception:
                if self._state in CONFIGURED and self._loaded is before:
                    raise
            else:
                if self._state in CONFIGURED and self._loaded is before:
                    return reloaded

    def _agree(self, changes: Mapping[str, Any]) -> None:
        """Refuse new values of parameters, ConfigError, that contradict the rules in use."""
        self._loaded.tuned(changes)

    def _parameters_changed(self, parameters: list[Parameter]) -> None:
        if self._state in CONFIGURED:
            self._use(self._loaded.tuned({parameter.name: parameter.value for parameter in parameters}))

    def _use(self, loaded: Loaded) -> None:
        self._loaded = loaded
        if self._worker is not None:
            self._worker.config = loaded.config

    def _publish_diagnostics(self) -> None:
        statuses = {f"{self.get_name()}: node": self._node_status()}
        for name, topics in self._cameras.items():
            topics.follow()
            status = self._camera_status(name, topics)
            status.values["image topic"] = topics.image_topic
            statuses[f"{self.get_name()}: camera {name}"] = status
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(_diagnostic_array(stamp, statuses, self.get_fully_qualified_name()))

    def _camera_status(self, name: str, topics: CameraTopics) -> Status:
        if self._worker is None:
            return Status(Level.OK, self._state, {})
        summary = self._worker.recent[name].summary(time.monotonic())
        counts = self._worker.frames.counts(name)
        settings = self._loaded.settings
        late_after = WINDOW + settings.engine_timeout
        return camera_status(counts, summary, settings.stale_after, late_after, read=topics.read)

    def _node_status(self) -> Status:
        described = self._loaded.description() if self._state in CONFIGURED else {}
        problem = self._problem
        if self._worker is not None:
            problem = self._worker.watchdog.trouble
            described["models loaded anew"] = str(self._worker.watchdog.count)
        return Status(Level.ERROR, problem, described) if problem else Status(Level.OK, self._state, described)


def _diagnostic_array(stamp: Time, statuses: Mapping[str, Status], hardware: str) -> DiagnosticArray:
    message = DiagnosticArray()
    message.header.stamp = stamp
    message.status = [
        DiagnosticStatus(
            level=bytes([status.level]),
            name=name,
            message=status.message,
            hardware_id=hardware,
            values=[KeyValue(key=key, value=value) for key, value in status.values.items()],
        )
        for name, status in statuses.items()
    ]
    return message
