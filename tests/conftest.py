"""Fixtures of all tests."""

from servers import kafka_server, redis_server  # noqa: F401
