"""classaug_node: the ROS 2 lifecycle node around the pipeline.

rclpy is at home in ``__main__``, ``lifecycle``, ``declared``, ``camera_topics``, ``qos`` and ``label_info``; the
others know no ROS.
"""
