#!/usr/bin/env bash
# A parameter that a node declared by its type, without a value, makes rclpy answer a get_parameters request for many names
# with no values at all: not with "not set" for that one, and not with the values that come before it. `ros2 param dump`
# asks for all names in one request, so that one such parameter empties the dump of the whole node. The same parameter
# declared with dynamic typing is answered as not set.
#
# Seen on 2026-11-29 with rclpy 9.1.2 (Kilted, the wheels of ros-kilted-rclpy), Python 3.11:
#   typed: asked for 2 names, got 0 values
#   dynamic: asked for 2 names, got 2 values
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ros-kilted-rclpy==9.1.2 ros-kilted-rmw-fastrtps-cpp==9.3.3 \
    numpy==2.2.6 2> /dev/null
cat > "$folder/program.py" <<'PROGRAM'
import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import Parameter

rclpy.init()
for kind in ("typed", "dynamic"):
    node = rclpy.create_node(f"{kind}_node")
    node.declare_parameter("a", 1)
    if kind == "typed":
        node.declare_parameter("b", Parameter.Type.STRING)
    else:
        node.declare_parameter("b", None, ParameterDescriptor(dynamic_typing=True))
    client = node.create_client(GetParameters, f"/{kind}_node/get_parameters")
    assert client.wait_for_service(30)
    future = client.call_async(GetParameters.Request(names=["a", "b"]))
    rclpy.spin_until_future_complete(node, future, timeout_sec=30)
    print(f"{kind}: asked for 2 names, got {len(future.result().values)} values")
    node.destroy_node()
rclpy.shutdown()
PROGRAM
export ROS_DOMAIN_ID=87 ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
"$folder/venv/bin/python" "$folder/program.py" | tee "$folder/seen"
