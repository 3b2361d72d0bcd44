"""Figures that a server tells of itself."""

from __future__ import annotations

from upwell.bench.load import ask, http


def parsed(text: str) -> dict[str, float]:
    """Prometheus's text format, without the figures that have labels."""
    out: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#") and "{" not in line:
            name, _, value = line.partition(" ")
            out[name] = float(value)
    return out


async def of(port: int) -> dict[str, float]:
    (body,) = await ask(port, [http("GET", "/metrics")], 1)
    return parsed(body.decode("utf-8"))
