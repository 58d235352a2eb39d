"""Measurements: ``steps`` of a frame within one process, and the ``running`` node over ROS."""
