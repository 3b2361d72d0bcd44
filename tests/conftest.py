"""Fixtures of all tests."""

from servers import redis_server  # noqa: F401
