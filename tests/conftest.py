"""Fixtures of all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

# Most of the suite's time is compiling, and many a test starts a process that compiles what another did before it:
# what is compiled is kept on disk (also for the next run), for all of them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

# Worlds are lived for a few days here: what compiles in half the time and runs as fast is worth more than what
# XLA's emitters of fused loops gain. Two workers share the cores, and each has enough to do on one.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1 --xla_cpu_multi_thread_eigen=false",
)

import jax
import pytest
from exported import exported, prediction_server  # noqa: F401
from hypothesis import settings
from servers import kafka_server, redis_server  # noqa: F401

# The first example of a test may compile, and machines are shared: no example fails for taking long.
settings.register_profile("shared", settings(), deadline=None)
settings.load_profile("shared")

# Linux gives a process 65,530 mappings, each function that JAX compiled holds some (the day of one arm: 2,000), and one
# mapping too many ends the process.
MANY_MAPPINGS = 30_000


@pytest.fixture(autouse=True)
def _few_mappings() -> Iterator[None]:
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MANY_MAPPINGS:
        jax.clear_caches()
