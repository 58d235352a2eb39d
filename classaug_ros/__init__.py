"""Augment a semantic segmentation model with the classes of a second data set, live on ROS 2 camera topics."""

__version__ = "0.1.0"
