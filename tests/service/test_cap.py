"""Never more than 20% heated: over any prefix and any hour, with every content bidding the most it can."""

from __future__ import annotations

import concurrent.futures
import time

import httpx
import pytest

from upwell.events import DECISIONS, open_log
from upwell.regulator import slate
from upwell.service import wire

CAP = 0.2
HOUR_MS = 3_600_000


def within_cap(lines: list[wire.Logged]) -> tuple[int, int]:
    """Checks one server's decisions in their order, over every prefix of each clock hour; heated and all."""
    heated = shown = 0
    hour = -1
    every = [0, 0]
    for line in lines:
        if line.ts // HOUR_MS != hour:
            hour, heated, shown = line.ts // HOUR_MS, 0, 0
        here = sum(place.kind == slate.HEATED for place in line.places)
        heated, shown = heated + here, shown + len(line.places)
        every[0], every[1] = every[0] + here, every[1] + len(line.places)
        assert heated <= CAP * shown + 1e-9, f"{heated} of {shown} heated after {line.decision_id}"
    return every[0], every[1]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3, 5, 10])
def test_two_servers_keep_the_cap(serve, size):
    settings = {"UPWELL_DAILY_IMPRESSIONS": "400000", "UPWELL_LIVE_CONTENTS": "40", "UPWELL_POOL": "1.0"}
    one = serve("--workers", "2", UPWELL_HOLDOUT="0.0", UPWELL_BUDGET="100000", UPWELL_FIRST_ASK="100000", **settings)
    ids = [f"c{n}" for n in range(40)]
    for id in ids:
        one.content(id)
    # A connection a request: those that are kept may all have been accepted by one of the two.
    one.http.close()
    one.http = httpx.Client(base_url=one.http.base_url, timeout=60.0, limits=httpx.Limits(max_keepalive_connections=0))
    ask = lambda n: one.recommend(f"u{n}", ids, size)  # noqa: E731
    users = iter(range(100_000))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        end = time.monotonic() + 12
        while time.monotonic() < end:
            assert all(a.status_code == 200 for a in pool.map(ask, [next(users) for _ in range(40)]))
    assert one.stop() in (0, -15)
    log = open_log(f"embedded:{one.folder / 'data' / 'journal'}", one.folder / "data" / "journal")
    entries = [e for part in log.recover({}, 10_000) for e in part if e.topic == DECISIONS]
    log.close()
    lines = [wire.logged_decoder.decode(e.value) for e in entries]
    servers = {line.server for line in lines}
    assert len(servers) == 2
    counted = [within_cap([line for line in lines if line.server == server]) for server in sorted(servers)]
    assert sum(heated for heated, _ in counted) > 0  # the cap had something to hold back
    within_cap(sorted(lines, key=lambda line: (line.ts, line.server)))
