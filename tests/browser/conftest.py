"""The simulated town of the sandbox's unit tests, for a real browser."""

from tests.unit.deploy.sandbox.conftest import own_directory, town, world

__all__ = ["own_directory", "town", "world"]
