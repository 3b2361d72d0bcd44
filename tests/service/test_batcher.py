"""Requests that come together are decided together, and their log says all that their state is made of."""

import asyncio
from types import SimpleNamespace

from service_samples import NOW, request, server

from upwell.events.port import DECISIONS, Entry
from upwell.service import apply
from upwell.service.batcher import Batcher
from upwell.service.live import Live
from upwell.state import open_store

IDS = [f"c{n}" for n in range(30)]


def together(live: Live, wanted: list[tuple[str, int]]) -> tuple[list, list[list[Entry]]]:
    """Requests of (user, time) that come in one turn of the event loop: their answers, and the log's batches."""
    batches: list[list[Entry]] = []

    def append(topic, lines):
        assert topic == DECISIONS
        first = sum(map(len, batches))
        batches.append([Entry("embedded-0", first + i, first + i + 1, topic, *line) for i, line in enumerate(lines)])
        return first + len(lines)

    batcher = Batcher(live.settings, live, SimpleNamespace(append=append), lambda position: None)

    async def run():
        return await asyncio.gather(*(batcher.answer(request(user, IDS), at) for user, at in wanted))

    return asyncio.run(run()), batches


def test_users_first_seen_in_one_batch_are_in_the_log_as_they_are_in_memory():
    live = server(contents=40, users=3)
    live.platform_ctr = 0.0123
    answers, batches = together(live, [("new0", NOW), ("new1", NOW + 7), ("u1", NOW + 9)])
    assert [len(answer.items) for answer in answers] == [10, 10, 10]
    assert [len(batch) for batch in batches] == [3]
    other = server(contents=40, users=3)
    apply.fold(open_store("memory:"), other, batches[0])
    for name in ("new0", "new1", "u1"):
        here, there = live.users.rows.at[name], other.users.rows.at[name]
        assert live.users.record[here].tobytes() == other.users.record[there].tobytes(), name


def test_one_user_twice_in_a_turn_is_decided_one_after_the_other():
    _, batches = together(server(contents=40, users=3), [("new0", NOW), ("new0", NOW + 7), ("new1", NOW)])
    assert [[entry.key for entry in batch] for batch in batches] == [["new0", "new1"], ["new0"]]
