"""A frame's way through models and fusion: on the CPU, and on a GPU behind the same protocol, ``FramePath``."""
