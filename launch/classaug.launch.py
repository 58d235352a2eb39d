"""Starts classaug_node for a vehicle; beside it, where asked, a bag that plays and RViz."""

import importlib.util
import os
import sys
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
    TimerAction,
)
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.ros_adapters import get_ros_node
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.task import Future

from classaug_ros.running.fastdds import profiles_variable

SHARE = Path(__file__).resolve().parents[1]
NODE = "classaug_node"
CAMERA = "camera"
ASK_EVERY = 0.5  # s, for the node's state
PROFILES_VARIABLE = profiles_variable()

StateRequest = tuple[Client, Future | None]

ARGUMENTS = (
    DeclareLaunchArgument(
        "params_file",
        default_value="",
        description="Parameter file of the node, a copy of config/classaug.yaml say; the arguments below override it.",
    ),
    DeclareLaunchArgument(
        "rules",
        default_value="",
        description="Rules file that `classaug learn` wrote; of several sub models [A, B], in their order.",
    ),
    DeclareLaunchArgument("main_model", default_value="", description="Main model: its file or folder."),
    DeclareLaunchArgument(
        "sub_model", default_value="", description="Sub model: its file or folder; several as [A, B]."
    ),
    DeclareLaunchArgument(
        "prefer",
        default_value="",
        choices=["", "evidence", "main"],
        description="Which main class a pixel has: evidence lets both models decide, main leaves it to the main model.",
    ),
    DeclareLaunchArgument(
        "min_confidence", default_value="", description="Pixels less confident than this, 0 to 1, are left unlabelled."
    ),
    DeclareLaunchArgument(
        "contours",
        default_value="",
        choices=["", "true", "false"],
        description="Let the labels follow the edges of the image; for rules of kind probability.",
    ),
    DeclareLaunchArgument(
        "device",
        default_value="",
        choices=["", "cpu", "cuda"],
        description="Where models and fusion run. Empty: as in params_file, else the CPU.",
    ),
    DeclareLaunchArgument("image_topic", default_value="", description="Image topic of the camera."),
    DeclareLaunchArgument(
        "camera",
        default_value="",
        description="Name of the one camera, which names its output topics. "
        f"Empty: the cameras of params_file, or '{CAMERA}' if image_topic or image_transport is given.",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="raw reads image_topic, compressed reads image_topic/compressed.",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and its output topics."),
    DeclareLaunchArgument(
        "rviz",
        default_value="false",
        choices=["true", "false"],
        description="Start RViz with the image, label colours, overlay and, switched off, the confidence of `camera` "
        f"('{CAMERA}' if empty).",
    ),
    DeclareLaunchArgument(
        "bag",
        default_value="",
        description="Bag to play once the node is active, by `ros2 bag play`, or `classaug play` if that is missing.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=["", "true", "false"],
        description="Take the time from /clock; a bag played beside the node then publishes it. "
        "Empty: true with a bag, else as in params_file.",
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="Least severe log messages of the node to show.",
    ),
    DeclareLaunchArgument(
        "fastdds_profile",
        default_value=os.environ.get(PROFILES_VARIABLE, str(SHARE / "config" / "fastdds.xml")),
        description="Fast DDS profile for all that is started here; the shipped one shares memory large enough for "
        "images. Cameras should run with the same. none: Fast DDS' own settings.",
    ),
)


def generate_launch_description() -> LaunchDescription:
    """Return the arguments and what they start."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[Action]:
    """Return the node, the bag and RViz, as the arguments ask for them.

    Raises:
        FileNotFoundError: a file that an argument names does not exist.
        ValueError: an argument is no number.
    """
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    if given["bag"] and not given["use_sim_time"]:
        given["use_sim_time"] = "true"  # stamps of a recording say nothing beside today's clock
    if given["fastdds_profile"] == "none":
        given["fastdds_profile"] = ""
    for name in ("params_file", "rules", "main_model", "sub_model", "bag", "fastdds_profile"):
        for path in one_or_several(given[name]):
            if not Path(path).exists():
                raise FileNotFoundError(f"launch argument {name}: there is no {path}")
    actions: list[Action] = []
    if given["fastdds_profile"]:
        actions.append(SetEnvironmentVariable(PROFILES_VARIABLE, given["fastdds_profile"]))
    actions.append(classaug_node(given))
    if given["bag"]:
        # Models take seconds to load: a bag started at once would be over in part before the first frame is taken.
        actions.append(OpaqueFunction(function=once_active, args=[node_name(given), bag_player(given)]))
    if given["rviz"] == "true":
        actions.append(rviz(given))
    return actions


def classaug_node(given: dict[str, str]) -> Node:
    """Return the node; when it ends, so does the launch."""
    overrides: dict[str, object] = {}
    if given["use_sim_time"]:
        overrides["use_sim_time"] = given["use_sim_time"] == "true"
    for argument, parameter in (("main_model",) * 2, ("sub_model",) * 2, ("rules", "rules_file")):
        if paths := one_or_several(given[argument]):
            overrides[parameter] = paths if len(paths) > 1 else paths[0]
    for name in ("prefer", "device"):
        if given[name]:
            overrides[name] = given[name]
    if given["min_confidence"]:
        overrides["min_confidence"] = number("min_confidence", given["min_confidence"])
    if given["contours"]:
        overrides["contours"] = given["contours"] == "true"
    of_camera = {name: given[name] for name in ("image_topic", "image_transport") if given[name]}
    if given["camera"] or of_camera:
        camera = given["camera"] or CAMERA
        overrides["cameras"] = [camera]
        overrides.update({f"{camera}.{name}": value for name, value in of_camera.items()})
    return Node(
        package="classaug_ros",
        executable="classaug_node",
        name=NODE,
        namespace=given["namespace"],
        parameters=[given["params_file"], overrides] if given["params_file"] else [overrides],
        arguments=["--ros-args", "--log-level", given["log_level"]],
        output="screen",
        on_exit=end_launch,
    )


def one_or_several(text: str) -> list[str]:
    """Return the paths of an argument: ``A``, ``[A]`` or ``[A, B]``; none where it is empty."""
    paths = text[1:-1].split(",") if text.startswith("[") and text.endswith("]") else [text]
    return [path.strip().strip("\"'") for path in paths if path.strip()]


def number(argument: str, text: str) -> float:
    """Return the number an argument is; the node checks its range."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"launch argument {argument}: expected a number, found {text!r}") from None


def node_name(given: dict[str, str]) -> str:
    """Return the node's full name."""
    return "/".join(["", *filter(None, given["namespace"].split("/")), NODE])


def once_active(context: LaunchContext, name: str, action: Action, request: StateRequest | None = None) -> list[Action]:
    """Return the action once the node of that name says it is active, until then a timer that asks again.

    The state is asked for, as an event that tells of it can pass before the launch has discovered the node.
    """
    client, answer = request or (get_ros_node(context).create_client(GetState, f"{name}/get_state"), None)
    if answer is not None and answer.done() and answer.result().current_state.id == State.PRIMARY_STATE_ACTIVE:
        return [action]
    if client.service_is_ready():
        answer = client.call_async(GetState.Request())
    again = OpaqueFunction(function=once_active, args=[name, action, (client, answer)])
    return [TimerAction(period=ASK_EVERY, actions=[again])]


def end_launch(_: ProcessExited, context: LaunchContext) -> list[Action]:
    """End the rest with the node, unless that is what ended the node."""
    return [] if context.is_shutdown else [Shutdown(reason=f"{NODE} ended")]


def bag_player(given: dict[str, str]) -> ExecuteProcess:
    """Return the player of the bag."""
    installed = importlib.util.find_spec("ros2bag") is not None
    play = ["ros2", "bag", "play"] if installed else [sys.executable, "-m", "classaug_ros.cli", "play"]
    clock = ["--clock"] if given["use_sim_time"] == "true" else []
    return ExecuteProcess(cmd=[*play, given["bag"], *clock], name="bag", output="screen")


def rviz(given: dict[str, str]) -> Node:
    """Return RViz, its topics made those of the camera and namespace."""
    camera = given["camera"] or CAMERA
    outputs = ("label_color", "overlay", "confidence")
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(SHARE / "rviz" / "classaug.rviz")],
        parameters=[{"use_sim_time": given["use_sim_time"] == "true"}],
        remappings=[
            (f"/{CAMERA}/image_raw", given["image_topic"] or f"/{camera}/image_raw"),
            *((f"/{NODE}/{CAMERA}/{output}", f"{node_name(given)}/{camera}/{output}") for output in outputs),
        ],
    )
