"""How fast the behaviour encoder takes in events, on one core, in a process of its own: ``run`` starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from upwell.errors import UpwellError

if TYPE_CHECKING:
    from upwell.agents.encoder_parts import Array, Events, Shape

ONE_THREAD = os.environ | {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
}
CONTENTS = 10_000
BATCHES = (16, 64, 256)


def run(seconds: float) -> dict[str, float]:
    """The figures, measured for so many seconds each."""
    command = [sys.executable, "-m", "upwell.bench.encoder_speed", str(seconds)]
    child = subprocess.run(command, capture_output=True, env=ONE_THREAD, timeout=600, check=False)
    if child.returncode != 0:
        raise UpwellError(f"measuring speed: {child.stderr.decode(errors='replace').strip()[-300:]}")
    return msgspec.json.decode(child.stdout, type=dict[str, float])


def history(shape: Shape, users: int, events: int) -> tuple[Array, Events]:
    """A table of vectors f32 ``[CONTENTS, content]``, and made-up events ``[users, events]``."""
    import jax.numpy as jnp

    from upwell.agents.encoder_parts import Events

    rng = np.random.default_rng(0)
    at = (users, events)
    made = (
        rng.integers(0, CONTENTS, at), rng.integers(0, shape.tags, at), rng.exponential(100.0, at),
        rng.exponential(10.0, at), rng.random(at) < 0.1,
    )  # fmt: skip
    kinds = (np.int32, np.int32, np.float32, np.float32, np.bool_)
    table = rng.normal(0.0, 0.1, (CONTENTS, shape.content)).astype(np.float32)
    return jnp.asarray(table), Events(*(jnp.asarray(x.astype(kind)) for x, kind in zip(made, kinds, strict=True)))


def measure(seconds: float) -> dict[str, float]:
    """Wall time of one event of one user, and events a second in batches of as many users, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import jax

    from upwell.agents.encoder import Encoder, blank, updater
    from upwell.agents.encoder_parts import Shape

    shape = Shape()
    update = updater(Encoder(shape, jax.random.key(0)))
    table, done = history(shape, max(BATCHES), 200)
    out: dict[str, float] = {}
    for users in (1, *BATCHES):
        state, took = blank(shape, users), list[float]()
        for n in range(2 * shape.window):  # compiles, and fills the windows, so that folding is in what is timed
            state, encoded = update(table, state, of(done, users, n))
        jax.block_until_ready(encoded)  # pyright: ignore[reportPossiblyUnboundVariable]
        busy, began, n = time.process_time(), time.perf_counter(), 0
        while time.perf_counter() - began < seconds or n < 20:
            event, start = of(done, users, n % 200), time.perf_counter()
            state, encoded = update(table, state, event)
            encoded.block_until_ready()
            took.append(time.perf_counter() - start)
            n += 1
        busy = time.process_time() - busy
        if users == 1:
            out |= {"update_ms": float(np.median(took)) * 1e3, "update_p90_ms": float(np.quantile(took, 0.9)) * 1e3}
            out["update_cpu_ms"] = busy / n * 1e3
        else:
            out[f"events_per_second_{users}"] = users * n / sum(took)
            out[f"events_per_cpu_second_{users}"] = users * n / busy
    return out


def of(events: Any, users: int, n: int) -> Any:
    """The ``n``-th event of the first ``users``, on the host, as it comes in."""
    return type(events)(*(np.asarray(x[:users, n]) for x in events))


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(measure(float(sys.argv[1]))).decode())
