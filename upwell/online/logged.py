"""The service's own log, read once from its beginning: steps of users' agents, for off-policy evaluation by hand."""

from __future__ import annotations

from pathlib import Path

from upwell.errors import BadRequest
from upwell.events import open_consumer
from upwell.events.port import DECISIONS, INTERACTIONS, Entry, OffsetLost
from upwell.online.experience import GONE_MS, HELD, Experience, Step
from upwell.service import wire
from upwell.service.apply import merged
from upwell.service.learned import WINDOW_MS

JOURNAL = "journal"
"""Of a service's data folder."""
ENTRIES, POLL_S = 10_000, 0.5


def steps_of_journal(folder: Path) -> tuple[list[Step], float]:
    """Steps of regulated users, and the deviation of the noise on their dials.

    ``folder``: a service's data folder. What the journal holds no more is not there. Raises BadRequest where users'
    agents turned nothing by chance, or with noise of different sizes: nothing can be said of other agents then.
    """
    consumer = open_consumer(f"embedded:{folder / JOURNAL}", folder, "evaluate", lambda partitions: {})
    entries: list[Entry] = []
    try:
        while True:
            try:
                found = consumer.poll(ENTRIES, POLL_S)
            except OffsetLost as lost:  # the oldest entries are dropped as room is needed
                consumer.seek(lost.partition, lost.first)
                continue
            if not found:
                break
            entries += found
    finally:
        consumer.close()
    lived, steps, deviations, now_ms = Experience(), list[Step](), set[float](), 0
    for entry in merged(entries):
        now_ms = max(now_ms, entry.ts_ms)
        if entry.topic == INTERACTIONS:
            event = wire.event_decoder.decode(entry.value).event
            if event is not None:
                lived.told(event)
        elif entry.topic == DECISIONS:
            line = wire.logged_decoder.decode(entry.value)
            if line.turned is not None:
                deviations.add(line.turned.deviation)
                steps += filter(None, [lived.decided(line)])
    steps += lived.gone(now_ms + GONE_MS + 2 * WINDOW_MS)
    if not deviations:
        raise BadRequest(f"{folder}: no decision of its journal was made with noise on users' dials: set dial_noise")
    if len(deviations) > 1:
        sizes = ", ".join(f"{size:g}" for size in sorted(deviations))
        raise BadRequest(f"{folder}: dial_noise was changed while it was written ({sizes}): judge each part by itself")
    return [step for step in steps if step.version != HELD], deviations.pop()
