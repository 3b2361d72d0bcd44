"""Whether explanations add up: every line that the service logs under load, parts against the logit that they make."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from upwell.bench import fleet, serve, traffic
from upwell.bench.load import Callers, drive
from upwell.errors import UpwellError
from upwell.events import DECISIONS, Consumer, open_consumer
from upwell.service import wire

STEPS = 1
AT_ONCE = 1_000


def run(
    decisions: int, candidates: int, connections: int, seed: int, folder: Path, step: Callable[[], None]
) -> dict[str, Any]:
    """The figures of one run in an empty folder."""
    asked = traffic.requests([n % serve.USERS for n in range(serve.DISTINCT)], serve.CONTENTS, candidates, seed)
    found = Sums()
    with serve.alone("sqlite", "embedded", folder, seed, dial_noise=0.1, protection_days=0.0) as made:
        journal = made.settings.data / "journal"
        reader = open_consumer(made.settings.events_url, journal, "explain", lambda _: {}, [DECISIONS])
        try:
            drive(lambda: read_along(made, reader, found, asked, connections, decisions))
        finally:
            reader.close()
    step()
    if found.decisions < decisions:
        raise UpwellError(f"{decisions:,} decisions were asked for and the log has {found.decisions:,}")
    return found.told()


async def read_along(
    made: fleet.Fleet, reader: Consumer, found: Sums, asked: list[bytes], connections: int, decisions: int
) -> None:
    """Ask for some, read what was logged, and so on, so that the journal is read before it is trimmed."""
    requests = itertools.cycle(asked)
    for first in range(0, decisions, AT_ONCE):
        callers = await Callers.to(made.ports[0], connections)
        ran = await callers.closed(itertools.islice(requests, min(AT_ONCE, decisions - first)))
        callers.close()
        if ran.failed:
            raise UpwellError(f"{ran.failed} of {ran.count} requests were refused: the server's log says why")
        while entries := reader.poll(AT_ONCE, 0.05):
            for entry in entries:
                found.add(wire.logged_decoder.decode(entry.value))


class Sums:
    """How far the parts of each place are from its logit."""

    def __init__(self) -> None:
        self.decisions = self.places = self.parts = self.exact = 0
        self.largest = 0.0
        self.kinds: dict[int, int] = {}

    def add(self, line: wire.Logged) -> None:
        self.decisions += 1
        for place in line.places:
            off = abs(sum(place.contributions.values()) - place.logit)
            self.places += 1
            self.parts += len(place.contributions)
            self.exact += off == 0.0
            self.largest = max(self.largest, off)
            self.kinds[place.kind] = self.kinds.get(place.kind, 0) + 1

    def told(self) -> dict[str, Any]:
        return {
            "decisions": self.decisions, "places": self.places, "parts_a_place": self.parts / max(self.places, 1),
            "largest_error": self.largest, "exact_share": self.exact / max(self.places, 1),
            "places_by_kind": {str(kind): count for kind, count in sorted(self.kinds.items())},
        }  # fmt: skip
