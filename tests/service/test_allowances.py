"""Impression leases under any interleaving: all servers together never show more than was granted and not released."""

from __future__ import annotations

import copy

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from upwell.service.allowances import Allowances, Report

CONTENTS = ("a", "b")


class Server:
    """What one server knows: the latest tick it heard, and what it showed."""

    def __init__(self, journal: int, began: int) -> None:
        self.journal, self.began, self.folded = f"j{journal}", began, dict.fromkeys(CONTENTS, 0)
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
        self.read: dict[str, int] = {}  # by journal, up to where it is folded
        self.join(1)
        self.grant(20)
        self.report(set())
        self.publish(set(), set(), False)

    def shown(self, content: str) -> int:
        return sum(server.shown[content] for server in (*self.servers.values(), *self.dead.values()))

    @rule(amount=st.integers(1, 30))
    def grant(self, amount: int) -> None:
        for content in CONTENTS:
            self.granted[content] += amount

    @property
    def every(self) -> dict[str, Server]:
        return {**self.servers, **self.dead}

    def folded(self) -> dict[str, dict[str, int]]:
        return {name: dict(server.folded) for name, server in self.every.items()}

    @rule(content=st.sampled_from(CONTENTS), part=st.sampled_from([0.5, 1.0]))
    def release(self, content: str, part: float) -> None:
        """What is not lent to anybody goes back to the pool."""
        free = self.granted[content] - self.released[content] - self.books.reserved(content)
        self.released[content] += int(free * part)

    @rule(content=st.sampled_from(CONTENTS))
    def release_all(self, content: str) -> None:
        """What the slow tick takes for outstanding, once nothing of it can have been shown that it does not know of."""
        if self.books.lent(self.folded())[content] == 0:
            counted = sum(server.folded[content] for server in self.every.values())
            self.released[content] = self.granted[content] - counted

    @precondition(lambda self: self.servers or self.dead)
    @rule(data=st.data(), content=st.sampled_from(CONTENTS), part=st.sampled_from([0.3, 1.0]))
    def fold(self, data, content: str, part: float) -> None:
        """A part of what a server logged is folded, whenever."""
        server = self.every[data.draw(st.sampled_from(sorted(self.every)))]
        server.folded[content] += int((server.shown[content] - server.folded[content]) * part)

    @rule(journal=st.integers(1, 2))
    def fold_all(self, journal: int) -> None:
        """A journal is folded to where its server of now began."""
        here = [server for server in self.every.values() if server.journal == f"j{journal}"]
        for server in here:
            if server not in self.servers.values():
                server.folded = dict(server.shown)
        if any(server in self.servers.values() for server in here):
            self.read[f"j{journal}"] = max(server.began for server in here)

    @rule()
    def settle(self) -> None:
        """Servers that ended are settled by what was folded of them."""
        for name in self.books.ended(self.read, 0):
            self.books.settle(name, self.folded()[name])

    @rule(journal=st.integers(1, 2))
    def join(self, journal: int) -> None:
        if all(server.journal != f"j{journal}" for server in self.servers.values()):
            self.joined += 1
            self.servers[f"s{self.joined}"] = Server(journal, 100 * self.joined)

    @precondition(lambda self: self.servers)
    @rule(data=st.data())
    def die(self, data) -> None:
        name = data.draw(st.sampled_from(sorted(self.servers)))
        self.dead[name] = self.servers.pop(name)

    @precondition(lambda self: self.servers)
    @rule(data=st.data(), content=st.sampled_from(CONTENTS), wanted=st.sampled_from([1, 3, 100]))
    def show(self, data, content: str, wanted: int) -> None:
        server = self.servers[data.draw(st.sampled_from(sorted(self.servers)))]
        left = max(server.allowance.get(content, 0) - server.shown[content], 0)
        server.shown[content] += min(wanted, left)
        server.impressions += wanted

    @rule(unseen=st.sets(st.integers(1, 6), max_size=1))
    def report(self, unseen: set[int]) -> None:
        """Reports are written; the books may see one now, later, twice or never."""
        for name, server in self.servers.items():
            self.now_ms += 1
            shown = {content: count for content, count in server.shown.items() if count}
            report = Report(server.number, shown, server.impressions, self.now_ms, server.journal, server.began)
            self.reports.append((name, report))
            if int(name[1:]) not in unseen:
                self.books.acknowledge(name, copy.deepcopy(report))

    @precondition(lambda self: self.reports)
    @rule(data=st.data())
    def late_report(self, data) -> None:
        name, report = data.draw(st.sampled_from(self.reports))
        self.books.acknowledge(name, copy.deepcopy(report))

    @rule(
        asleep=st.sets(st.integers(1, 6), max_size=1), withdrawn=st.sets(st.sampled_from(CONTENTS)), deaf=st.booleans()
    )
    def publish(self, asleep: set[int], withdrawn: set[str], deaf: bool) -> None:
        """The slow tick's allowances, without what it withdraws; a server may be taken for dead, all may be deaf."""
        self.number += 1
        shared = [c for c in CONTENTS if self.granted[c] > self.released[c] and c not in withdrawn]
        available = {c: self.granted[c] - self.released[c] for c in shared}
        living = [name for name in self.servers if name in self.books.servers and int(name[1:]) not in asleep]
        told = self.books.publish(self.number, available, living)
        self.ticks.append((self.number, {name: dict(of) for name, of in told.items()}))
        for name, server in self.servers.items() if not deaf else ():
            server.hear(self.number, dict(told.get(name, {})))

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
            assert self.books.lent(self.folded())[content] >= 0

    def unheard(self, content: str) -> int:
        """Shown by servers that the books never heard of: none, since nobody shows without an allowance."""
        known = self.books.servers.keys()
        return sum(server.shown[content] for name, server in self.every.items() if name not in known)


Leases.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestLeases = Leases.TestCase


def told(books: Allowances, server: str, number: int, at_ms: int, impressions: int = 0, **shown: int) -> None:
    books.acknowledge(server, Report(number, shown, impressions, at_ms, "j", 100 * int(server[1:])))


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
    assert books.lent({"s1": {"a": 3}})["a"] == 7
    told(books, "s1", 2, 3, 3, a=3)
    assert books.lent({"s1": {"a": 3}})["a"] == 0


def test_what_was_reported_is_lent_until_it_is_folded():
    books = Allowances()
    told(books, "s1", 0, 1)
    books.publish(1, {"a": 10}, ["s1"])
    told(books, "s1", 1, 2, 4, a=4)
    books.publish(2, {}, ["s1"])
    told(books, "s1", 2, 3, 4, a=4)  # goes by it: nothing more is shown
    assert books.lent({})["a"] == 4
    assert books.lent({"s1": {"a": 3}})["a"] == 1
    assert books.lent({"s1": {"a": 4}})["a"] == 0
    assert books.lent({"s2": {"a": 4}})["a"] == 4  # another's do not make up for it


def test_what_a_dead_server_had_left_is_free_once_all_that_it_logged_is_folded():
    books = Allowances()
    told(books, "s1", 0, 1)
    books.publish(1, {"a": 10}, ["s1"])
    told(books, "s1", 1, 2, 4, a=4)
    books.publish(2, {"a": 10}, [])
    folded = {"s1": {"a": 5, "gone": 3}}  # one more than it reported before it was killed
    assert books.lent(folded)["a"] == 5
    told(books, "s2", 0, 5)  # another has its journal
    assert books.ended({}, 0) == books.ended({"j": 199}, 0) == books.ended({"k": 300}, 0) == []
    assert books.ended({"j": 200}, 0) == ["s1"]
    assert books.ended({}, 3) == ["s1"]  # or has it been dead for long
    books.settle("s1", folded["s1"])
    assert books.reserved("a") == 5
    assert books.lent(folded)["a"] == 0
    assert books.ended({"j": 200}, 3) == []
    assert books.publish(3, {"a": 10}, ["s2"])["s2"]["a"] == 5


def test_an_old_report_changes_nothing():
    books = Allowances()
    told(books, "s1", 0, 5)
    books.publish(1, {"a": 10}, ["s1"])
    told(books, "s1", 1, 9, 4, a=4)
    before = msgspec.msgpack.encode(books)
    told(books, "s1", 0, 7)
    told(books, "s1", 1, 9, 4, a=4)
    assert msgspec.msgpack.encode(books) == before
