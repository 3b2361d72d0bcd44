"""Slates of many random batches, as they are logged."""

import numpy as np
from service_samples import (
    NOW,
    any_request,
    grant,
    server,
    shown,
)  # fmt: skip

from upwell.service import wire


def regulated(line: wire.Logged) -> list[wire.Place]:
    """What was decided: in the shadow something else was shown."""
    return line.instead or line.places


def lines_of(seed: int, batches: int, most: int = 24, **given) -> list[wire.Logged]:
    """Slates of many random batches, as they are logged: through JSON and back."""
    rng = np.random.default_rng(seed)
    live = server(seed, **given)
    lines = []
    for number in range(batches):
        size = int(rng.integers(1, 21))
        users = rng.choice([f"u{n}" for n in range(60)] + ["new1", "new2"], int(rng.integers(1, most)), replace=False)
        shadow = rng.random() < 0.1
        batch = [any_request(live, rng, user, size, shadow=bool(shadow and rng.random() < 0.5)) for user in users]
        lines += shown(live, batch, NOW + number * 40_000)
        if number % 10 == 9:
            grant(live, rng, 3, int(rng.choice([1, 3, 1_000])))
    assert not live.failures
    return [wire.logged_decoder.decode(wire.encoder.encode(line)) for line in lines]


def chosen(places: list[wire.Place]) -> list[tuple]:
    return [(p.id, p.kind, p.propensity, p.stochastic) for p in places]
