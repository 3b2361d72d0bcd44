"""Fixtures of all tests."""

from exported import exported, prediction_server  # noqa: F401
from hypothesis import settings
from servers import kafka_server, redis_server  # noqa: F401

# The first example of a test may compile, and machines are shared: no example fails for taking long.
settings.register_profile("shared", settings(), deadline=None)
settings.load_profile("shared")
