"""Impression leases under any interleaving: all servers together never show more than was granted and not released."""

from __future__ import annotations

import copy

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from upwell.service.allowances import Allowances, Report

CONTENTS = ("a", "b", "c")


class Server:
    """What one server knows: the latest tick it heard, and what it showed."""

    def __init__(self) -> None:
        self.number, self.allowance, self.shown, self.impressions = 0, {}, dict.fromkeys(CONTENTS, 0), 0

    def hear(self, number: int, allowance: dict[str, int]) -> None:
        # Each message is a whole record in the store: a later one replaces an earlier one.
        if number > self.number:
            self.number, self.allowance = number, allowance


class Leases(RuleBasedStateMachine):
    """The books grant and release; reports and ticks are late, lost and doubled; servers die and join."""

    @initialize()
    def begin(self) -> None:
        self.books = Allowances()
        self.granted, self.released = dict.fromkeys(CONTENTS, 0), dict.fromkeys(CONTENTS, 0)
        self.servers: dict[str, Server] = {}
        self.dead: dict[str, Server] = {}
        self.ticks: list[tuple[int, dict[str, dict[str, int]]]] = []
        self.reports: list[tuple[str, Report]] = []
        self.number, self.now_ms, self.joined = 0, 0, 0

    def shown(self, content: str) -> int:
        return sum(server.shown[content] for server in (*self.servers.values(), *self.dead.values()))

    @rule(content=st.sampled_from(CONTENTS), amount=st.integers(1, 30))
    def grant(self, content: str, amount: int) -> None:
        self.granted[content] += amount

    @rule(content=st.sampled_from(CONTENTS), part=st.floats(0, 1))
    def release(self, content: str, part: float) -> None:
        """What is not lent to anybody goes back to the pool, as the slow tick does it."""
        free = self.granted[content] - self.released[content] - self.books.reserved(content)
        self.released[content] += int(free * part)

    @rule()
    def join(self) -> None:
        self.joined += 1
        self.servers[f"s{self.joined}"] = Server()

    @precondition(lambda self: self.servers)
    @rule(data=st.data())
    def die(self, data) -> None:
        name = data.draw(st.sampled_from(sorted(self.servers)))
        self.dead[name] = self.servers.pop(name)

    @precondition(lambda self: self.servers)
    @rule(data=st.data(), content=st.sampled_from(CONTENTS), wanted=st.integers(1, 50))
    def show(self, data, content: str, wanted: int) -> None:
        server = self.servers[data.draw(st.sampled_from(sorted(self.servers)))]
        left = max(server.allowance.get(content, 0) - server.shown[content], 0)
        server.shown[content] += min(wanted, left)
        server.impressions += wanted

    @precondition(lambda self: self.servers)
    @rule(data=st.data(), sees=st.booleans())
    def report(self, data, sees: bool) -> None:
        """A report is written; the books may see it now, later, twice or never."""
        name = data.draw(st.sampled_from(sorted(self.servers)))
        server = self.servers[name]
        self.now_ms += 1
        shown = {content: count for content, count in server.shown.items() if count}
        report = Report(server.number, shown, server.impressions, self.now_ms)
        self.reports.append((name, report))
        if sees:
            self.books.acknowledge(name, copy.deepcopy(report))

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def late_report(self, data) -> None:
        name, report = data.draw(st.sampled_from(self.reports))
        self.books.acknowledge(name, copy.deepcopy(report))

    @rule(alive=st.sets(st.integers(1, 6)))
    def publish(self, alive: set[int]) -> None:
        self.number += 1
        available = {c: self.granted[c] - self.released[c] for c in CONTENTS if self.granted[c] > self.released[c]}
        living = [f"s{n}" for n in sorted(alive) if f"s{n}" in self.books.servers]
        told = self.books.publish(self.number, available, living)
        self.ticks.append((self.number, {name: dict(of) for name, of in told.items()}))

    @precondition(lambda self: self.ticks and self.servers)
    @rule(data=st.data())
    def hear(self, data) -> None:
        number, told = data.draw(st.sampled_from(self.ticks))
        name = data.draw(st.sampled_from(sorted(self.servers)))
        self.servers[name].hear(number, told.get(name, {}))

    @rule()
    def restart_the_books(self) -> None:
        """Another worker takes over with what the store has."""
        self.books = msgspec.msgpack.decode(msgspec.msgpack.encode(self.books), type=Allowances)

    @invariant()
    def never_overspent(self) -> None:
        for content in CONTENTS if hasattr(self, "books") else ():
            spendable = self.granted[content] - self.released[content]
            assert self.shown(content) <= self.books.reserved(content) + self.unheard(content)
            assert self.shown(content) <= spendable
            assert self.books.reserved(content) <= spendable
            assert self.books.held(content) >= 0

    def unheard(self, content: str) -> int:
        """Shown by servers that the books never heard of: none, since nobody shows without an allowance."""
        known = self.books.servers.keys()
        every = {**self.servers, **self.dead}
        return sum(server.shown[content] for name, server in every.items() if name not in known)


Leases.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLeases = Leases.TestCase


def told(books: Allowances, server: str, number: int, at_ms: int, impressions: int = 0, **shown: int) -> None:
    books.acknowledge(server, Report(number, shown, impressions, at_ms))


def test_recalled_impressions_come_back_with_the_acknowledgement():
    books = Allowances()
    told(books, "s1", 0, 1)
    assert books.publish(1, {"a": 10}, ["s1"]) == {"s1": {"a": 10}}
    told(books, "s1", 1, 2, 4, a=4)
    told(books, "s2", 0, 3)
    # A second server joins: the first is asked to give some back, and the second gets nothing until it has.
    lowered = books.publish(2, {"a": 10}, ["s1", "s2"])
    assert lowered["s1"]["a"] < 10
    assert books.reserved("a") == 10
    assert lowered["s2"].get("a", 0) == 0
    told(books, "s1", 2, 4, 4, a=4)
    assert books.reserved("a") == lowered["s1"]["a"]
    raised = books.publish(3, {"a": 10}, ["s1", "s2"])
    assert raised["s2"]["a"] > 0
    assert raised["s1"]["a"] + raised["s2"]["a"] <= 10


def test_a_grant_that_is_gone_is_recalled():
    books = Allowances()
    told(books, "s1", 0, 1)
    books.publish(1, {"a": 10}, ["s1"])
    told(books, "s1", 1, 2, 3, a=3)
    assert books.publish(2, {}, ["s1"])["s1"].get("a", 0) <= 3
    assert books.held("a") == 7
    told(books, "s1", 2, 3, 3, a=3)
    assert books.held("a") == 0


def test_what_a_dead_server_had_left_is_free_once_its_entries_cannot_come_in():
    books = Allowances()
    told(books, "s1", 0, 1)
    books.publish(1, {"a": 10}, ["s1"])
    told(books, "s1", 1, 2, 4, a=4)
    books.publish(2, {"a": 10}, [])
    assert books.held("a") == 6
    books.forget(3)
    assert books.reserved("a") == 4
    told(books, "s2", 0, 5)
    assert books.publish(3, {"a": 10}, ["s2"])["s2"]["a"] == 6


def test_an_old_report_changes_nothing():
    books = Allowances()
    told(books, "s1", 0, 5)
    books.publish(1, {"a": 10}, ["s1"])
    told(books, "s1", 1, 9, 4, a=4)
    before = msgspec.msgpack.encode(books)
    told(books, "s1", 0, 7)
    told(books, "s1", 1, 9, 4, a=4)
    assert msgspec.msgpack.encode(books) == before
