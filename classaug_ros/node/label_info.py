"""The latched topics that tell what the ids in the label images mean."""

from __future__ import annotations

import json
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import String

from classaug_ros.rules import RuleSet

try:
    import vision_msgs.msg as vision_msgs
except ImportError:  # not part of every ROS installation
    vision_msgs = None

_LATCHED = QoSProfile(
    depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
)


class LabelInfoTopics:
    """``~/label_info``, JSON, and where vision_msgs is installed ``~/label_info/vision_msgs``, its LabelInfo."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._json = node.create_lifecycle_publisher(String, "~/label_info", _LATCHED)
        self._vision: Any = None
        if vision_msgs is not None:
            self._vision = node.create_lifecycle_publisher(vision_msgs.LabelInfo, "~/label_info/vision_msgs", _LATCHED)

    def publish(self, rules: RuleSet) -> None:
        """Publish ids, names, colours and sources of the output classes; for those who come later too."""
        self._json.publish(String(data=json.dumps(rules.label_info())))
        if self._vision is not None:
            message = vision_msgs.LabelInfo()
            message.header.stamp = self._node.get_clock().now().to_msg()
            message.class_map = [
                vision_msgs.VisionClass(class_id=number, class_name=name)
                for number, name in enumerate(rules.output.names)
            ]
            self._vision.publish(message)

    def destroy(self) -> None:
        """Take the topics back."""
        for publisher in (self._json, self._vision):
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)
