"""The kinds of error a user can cause or meet.

Each message is one line that names the value, what was expected and what to do.
"""


class ClassaugError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(ClassaugError):
    """A file, option or parameter given by the user is wrong."""


class ImageError(ClassaugError):
    """An image, as a message or a file, that cannot be used."""


class EngineError(ClassaugError):
    """A model that cannot be loaded or run."""
