"""Memory of one pass of a behaviour model over long histories, in a process of its own: ``run`` starts it.

Two figures: what XLA sets aside for temporaries of the compiled program, and by how much the resident set really grows
from before the program's first run to its peak (the kernel's high-water mark, set back after compiling).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from upwell.bench.encoder_speed import ONE_THREAD, history
from upwell.errors import UpwellError

PASSES = ("train", "last")
"""Forward and backward with an encoding after each event; forward alone to the encoding after the last."""


def run(model: str, what: str, users: int, events: int) -> dict[str, float]:
    """Bytes a user, ``xla`` and ``rss``, of a ``what`` in PASSES of a model, for so many users at once."""
    command = [sys.executable, "-m", "upwell.bench.encoder_memory", model, what, str(users), str(events)]
    child = subprocess.run(command, capture_output=True, env=ONE_THREAD, timeout=600, check=False)
    if child.returncode != 0:
        raise UpwellError(f"measuring memory of {model}: {child.stderr.decode(errors='replace').strip()[-300:]}")
    return msgspec.json.decode(child.stdout, type=dict[str, float])


def measure(model: str, what: str, users: int, events: int) -> dict[str, float]:
    """The figures, in this process."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from upwell.agents.encoder import Encoder, absorb
    from upwell.agents.encoder_parts import Events, Shape
    from upwell.learn.rivals import Plain

    shape = Shape()
    events = shape.fitting(events)
    name, _, frugal = model.partition("+")
    own: Any = Encoder(shape, jax.random.key(0)) if name == "encoder" else Plain(shape, jax.random.key(0))
    table, done = history(shape, users, events)
    weight = jax.random.normal(jax.random.key(1), (shape.content,))
    arrays, static = eqx.partition(own, eqx.is_array)

    def forward(arrays: Any, table: jax.Array, done: Events) -> jax.Array:
        reader = eqx.combine(arrays, static)
        if what == "train":
            return jax.vmap(lambda one: reader.outputs(table, one, frugal=bool(frugal)))(done) @ weight
        if isinstance(reader, Encoder):
            return jax.vmap(lambda one: absorb(reader, table, one, jnp.int32(events))[1])(done) @ weight
        return jax.vmap(lambda one: reader.last(table, one))(done) @ weight

    whole = jax.grad(lambda *given: (forward(*given) ** 2).mean()) if what == "train" else forward
    program = jax.jit(whole).lower(arrays, table, done).compile()
    before = resident("VmRSS", clear=True)
    jax.block_until_ready(program(arrays, table, done))
    grown = resident("VmHWM") - before
    analysis = program.memory_analysis()
    assert analysis is not None
    return {"xla": analysis.temp_size_in_bytes / users, "rss": grown / users}


def resident(field: str, clear: bool = False) -> int:
    """Bytes of this process's resident set, now (VmRSS) or at its highest (VmHWM) since it was last set back."""
    if clear:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(measure(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))).decode())
