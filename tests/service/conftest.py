"""Fixtures of the service's tests."""

from http_server import guarded, serve, served  # noqa: F401
