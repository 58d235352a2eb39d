"""Measurements: ``steps`` of a frame within one process, and a ``live`` node over ROS."""
