"""The simulated platform: users, contents, creators, a raw ranker and the responses, in arrays."""

import os

if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < 2:
    # On one core XLA has one thread, and a program that calls back to the host waits there for its own arguments, whose
    # copy waits for that thread. Read when JAX first looks for devices.
    os.environ.setdefault("NPROC", "2")
