"""Fixtures of all tests."""

from kafka_server import kafka_server  # noqa: F401
from servers import redis_server  # noqa: F401
