from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("launch_ros.actions", reason="launch_ros is not installed", exc_type=ImportError)

from launch import LaunchContext, LaunchDescription, LaunchService
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
    TimerAction,
)
from launch.utilities import perform_substitutions
from launch_ros.actions import Node
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from support.ros import own_domain

PROJECT = Path(__file__).resolve().parents[1]
ARGUMENTS = {
    "params_file",
    "rules",
    "main_model",
    "sub_model",
    "prefer",
    "min_confidence",
    "contours",
    "device",
    "image_topic",
    "camera",
    "image_transport",
    "namespace",
    "rviz",
    "bag",
    "use_sim_time",
    "log_level",
    "fastdds_profile",
}


@pytest.fixture
def launch_file() -> Any:
    spec = importlib.util.spec_from_file_location("classaug_launch", PROJECT / "launch" / "classaug.launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def running_executor(domain: int) -> Iterator[SingleThreadedExecutor]:
    """An executor that spins in a thread, its context in the domain."""
    context = Context()
    context.init(domain_id=domain)
    executor = SingleThreadedExecutor(context=context)
    left = Future()
    spinning = threading.Thread(target=executor.spin_until_future_complete, args=(left,))
    spinning.start()
    try:
        yield executor
    finally:
        left.set_result(None)
        spinning.join()
        executor.shutdown()
        context.shutdown()


def start(launch_file: Any, **given: str) -> list[Any]:
    """What the launch file starts for these arguments."""
    context = LaunchContext()
    context.launch_configurations.update(given)
    description = launch_file.generate_launch_description()
    for entity in description.entities[:-1]:
        entity.visit(context)
    started: list[Any] = launch_file.start(context)
    return started


def the_node(started: list[Any], executable: str = "classaug_node") -> Any:
    (node,) = (action for action in started if isinstance(action, Node) and action.node_executable == executable)
    return node


def parameters_of(node: Any, context: Any) -> tuple[list[str], dict[str, Any]]:
    """The parameter files a node is given, and the parameters beside them, as they stand on its command line."""
    node._perform_substitutions(context)
    files = [str(path) for path, is_file in node._Node__expanded_parameter_arguments if is_file]
    *given, written = files
    # launch_ros writes lists as Python tuples, which a safe loader refuses.
    (values,) = yaml.load(Path(written).read_text(), Loader=yaml.FullLoader).values()
    return given, values["ros__parameters"]


def test_arguments_are_described(launch_file: Any) -> None:
    declared = launch_file.generate_launch_description().get_launch_arguments()
    assert {argument.name for argument in declared} == ARGUMENTS
    assert all(len(argument.description) > 20 for argument in declared)
    assert all(isinstance(argument, DeclareLaunchArgument) and argument.default_value for argument in declared)


def test_only_given_arguments_override(launch_file: Any) -> None:
    node = the_node(start(launch_file))
    assert parameters_of(node, LaunchContext()) == ([], {})


def test_arguments_become_parameters(launch_file: Any, tmp_path: Path) -> None:
    rules, main, params = (tmp_path / name for name in ("rules.yaml", "main.onnx", "params.yaml"))
    for path in (rules, main, params):
        path.touch()
    node = the_node(
        start(
            launch_file,
            rules=str(rules),
            main_model=str(main),
            params_file=str(params),
            camera="front",
            image_topic="/front/image",
            image_transport="compressed",
            namespace="car",
            use_sim_time="true",
        )
    )
    files, values = parameters_of(node, LaunchContext())
    assert files == [str(params)]
    assert values == {
        "rules_file": str(rules),
        "main_model": str(main),
        "cameras": ("front",),
        "front.image_topic": "/front/image",
        "front.image_transport": "compressed",
        "use_sim_time": True,
    }
    assert node.node_name == "/car/classaug_node"


def test_several_sub_models_have_a_rules_file_each(launch_file: Any, tmp_path: Path) -> None:
    names = ("a", "b", "a.yaml", "b.yaml")
    first, second, *rules = (str(tmp_path / name) for name in names)
    for name in names:
        (tmp_path / name).touch()
    given = {"sub_model": f"[{first}, {second}]", "rules": f'["{rules[0]}", "{rules[1]}"]'}
    _, values = parameters_of(the_node(start(launch_file, **given)), LaunchContext())
    assert values == {"sub_model": (first, second), "rules_file": tuple(rules)}
    with pytest.raises(FileNotFoundError, match=r"launch argument sub_model: there is no .*gone"):
        start(launch_file, sub_model=f"[{first}, {tmp_path / 'gone'}]")


@pytest.mark.parametrize("paths", ["/tmp", "[/tmp]"])
def test_one_sub_model_is_a_string(launch_file: Any, paths: str) -> None:
    _, values = parameters_of(the_node(start(launch_file, sub_model=paths)), LaunchContext())
    assert values == {"sub_model": "/tmp"}


def test_how_labels_are_decided_for_is_of_the_parameters_types(launch_file: Any) -> None:
    node = the_node(start(launch_file, prefer="main", min_confidence="0.5", contours="true", device="cuda"))
    _, values = parameters_of(node, LaunchContext())
    assert values == {"prefer": "main", "min_confidence": 0.5, "contours": True, "device": "cuda"}
    with pytest.raises(ValueError, match="launch argument min_confidence: expected a number, found 'half'"):
        start(launch_file, min_confidence="half")


def test_topic_without_camera_is_that_of_the_default_camera(launch_file: Any) -> None:
    _, values = parameters_of(the_node(start(launch_file, image_topic="/image")), LaunchContext())
    assert values["cameras"] == ("camera",)
    assert values["camera.image_topic"] == "/image"


def test_shipped_fast_dds_profile_is_set_for_all(launch_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(launch_file.PROFILES_VARIABLE, raising=False)
    context = LaunchContext()
    first = start(launch_file, fastdds_profile=str(PROJECT / "config" / "fastdds.xml"))[0]
    assert isinstance(first, SetEnvironmentVariable)
    assert perform_substitutions(context, first.name) == launch_file.PROFILES_VARIABLE
    assert perform_substitutions(context, first.value) == str(PROJECT / "config" / "fastdds.xml")


@pytest.mark.parametrize("off", ["", "none"])
def test_fast_dds_profile_switched_off(launch_file: Any, off: str) -> None:
    assert not any(isinstance(action, SetEnvironmentVariable) for action in start(launch_file, fastdds_profile=off))


@pytest.mark.parametrize(("use_sim_time", "clock"), [("true", True), ("false", False), ("", True)])
def test_bag_is_played(launch_file: Any, tmp_path: Path, use_sim_time: str, clock: bool) -> None:
    started = start(launch_file, bag=str(tmp_path), use_sim_time=use_sim_time)
    assert not any(isinstance(action, ExecuteProcess) and not isinstance(action, Node) for action in started)
    (waiting,) = (action for action in started if isinstance(action, OpaqueFunction))
    name, player = waiting._OpaqueFunction__args
    command = [perform_substitutions(LaunchContext(), part) for part in player.cmd]
    assert name == "/classaug_node"
    assert "play" in command
    assert str(tmp_path) in command
    assert ("--clock" in command) == clock


@pytest.mark.ros
@pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning")  # launch, on Python 3.12
@pytest.mark.parametrize("until_active", [0.0, 2.0], ids=["active already", "active later"])
def test_bag_waits_for_the_active_node(launch_file: Any, monkeypatch: pytest.MonkeyPatch, until_active: float) -> None:
    happened: list[str] = []

    def played(_: LaunchContext) -> list[Any]:
        happened.append("bag")
        return [Shutdown()]

    def activate() -> None:
        happened.append("active")
        node.trigger_activate()

    with own_domain() as domain, running_executor(domain) as executor:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        node = LifecycleNode("classaug_node", namespace="car", context=executor.context)
        node.trigger_configure()
        executor.add_node(node)
        # As the node's own: in the thread that is asked for the state.
        activation = threading.Timer(until_active, executor.create_task, [activate])
        activation.start()
        service = LaunchService(noninteractive=True)
        wait = OpaqueFunction(
            function=launch_file.once_active, args=["/car/classaug_node", OpaqueFunction(function=played)]
        )
        service.include_launch_description(LaunchDescription([wait, TimerAction(period=20.0, actions=[Shutdown()])]))
        try:
            assert service.run() == 0
        finally:
            activation.join()
            node.destroy_node()
    assert happened == ["active", "bag"]


def test_rviz_follows_camera_and_namespace(launch_file: Any) -> None:
    started = start(launch_file, rviz="true", camera="rear", image_topic="/rear/image", namespace="/car")
    viewer = the_node(started, "rviz2")
    viewer._perform_substitutions(LaunchContext())
    assert viewer.expanded_remapping_rules == [
        ("/camera/image_raw", "/rear/image"),
        ("/classaug_node/camera/label_color", "/car/classaug_node/rear/label_color"),
        ("/classaug_node/camera/overlay", "/car/classaug_node/rear/overlay"),
        ("/classaug_node/camera/confidence", "/car/classaug_node/rear/confidence"),
    ]
    shown = yaml.safe_load((PROJECT / "rviz" / "classaug.rviz").read_text())["Visualization Manager"]["Displays"]
    assert [display["Topic"]["Value"] for display in shown] == [topic for topic, _ in viewer.expanded_remapping_rules]
    assert [display["Enabled"] for display in shown] == [True, True, True, False]


def test_missing_file_is_named(launch_file: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"launch argument rules: there is no .*gone\.yaml"):
        start(launch_file, rules=str(tmp_path / "gone.yaml"))
