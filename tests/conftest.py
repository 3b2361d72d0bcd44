"""Fixtures of all tests."""

import os
from pathlib import Path

from hypothesis import settings
from servers import kafka_server, redis_server  # noqa: F401

# What one test compiled no other compiles again, nor any process that one starts: set before JAX is first imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# The first example of a test may compile, and machines are shared: no example fails for taking long.
settings.register_profile("shared", settings(), deadline=None)
settings.load_profile("shared")
