"""Fixtures of all tests."""

import os
from pathlib import Path

# Most of the suite's time is compiling, and many a test starts a process that compiles what another did before it:
# what is compiled is kept on disk (also for the next run), for all of them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

from exported import exported, prediction_server  # noqa: F401
from hypothesis import settings
from servers import kafka_server, redis_server  # noqa: F401

# The first example of a test may compile, and machines are shared: no example fails for taking long.
settings.register_profile("shared", settings(), deadline=None)
settings.load_profile("shared")
