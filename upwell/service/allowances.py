"""Impression leases: how much of each grant every server may show, so that the ledger holds across processes.

An allowance is cumulative: a server may show a content as long as it has shown less than its allowance, counted since
the server began. All allowances together never exceed what was granted and not released, so no message that is late,
lost or doubled can make servers overspend. To take some back, a lower allowance is published first; the books go on
reserving the higher one until the server reports that it goes by the lower (``acknowledge``). What is reserved is free
for others or for the pool once it is known what was shown, and that is what was folded from the log, server by server:
a report may run ahead of the log, and a killed server behind it. So what a killed server had left stays reserved until
all that it logged is folded (``ended``, ``settle``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

By = dict[str, int]  # content → impressions


class Report(msgspec.Struct):
    """What a server says of itself: its latest tick, what it has shown of grants since it began, its traffic."""

    number: int
    shown: By  # of the grants in that tick
    impressions: int  # since it began
    at_ms: int
    journal: str = ""  # what it logs to, held by one server at a time
    began: int = 0  # the offset of its first entry there
    purses: dict[str, By] = msgspec.field(default_factory=dict[str, By])  # ``shown`` out of each arm's (``arms.Split``)


class Share(msgspec.Struct):
    """What the books know of one server."""

    reserved: By = msgspec.field(default_factory=By)  # most it may have shown, whatever it has heard
    published: By = msgspec.field(default_factory=By)  # its allowance in the latest tick
    number: int = 0  # of that tick
    shown: By = msgspec.field(default_factory=By)  # as it last reported
    impressions: int = 0
    traffic: int = 0  # impressions between its last two reports
    at_ms: int = 0
    journal: str = ""
    began: int = 0
    settled: bool = False  # it is over, and ``reserved`` is what it showed in the end


class Allowances(msgspec.Struct):
    """Every server's share of a purse's grants. Kept in the store with the books, in the same writes."""

    servers: dict[str, Share] = msgspec.field(default_factory=dict[str, Share])

    def acknowledge(self, server: str, report: Report, purse: str = "") -> None:
        """Take a server's report in: what it showed, and that it goes by the allowance it names."""
        share = self.servers.setdefault(server, Share())
        if report.at_ms <= share.at_ms:
            return
        share.shown |= report.purses.get(purse, {}) if purse else report.shown
        share.at_ms, share.journal, share.began, share.settled = report.at_ms, report.journal, report.began, False
        share.traffic, share.impressions = report.impressions - share.impressions, report.impressions
        if report.number >= share.number:
            share.reserved = {
                content: most
                for content in share.published.keys() | share.shown.keys()
                if (most := max(share.published.get(content, 0), share.shown.get(content, 0))) > 0
            }

    def reserved(self, content: str) -> int:
        """Impressions of a grant that servers may have shown by now."""
        return sum(share.reserved.get(content, 0) for share in self.servers.values())

    def lent(self, folded: Mapping[str, By]) -> Counter[str]:
        """Of each content, impressions that may have been shown and are not folded yet: they cannot be released.

        ``folded``: of each server, its heated impressions that the log's fold has counted.
        """
        out: Counter[str] = Counter()
        for name, share in self.servers.items():
            counted = folded.get(name, {})
            for content, most in share.reserved.items() if not share.settled else ():
                out[content] += max(most - counted.get(content, 0), 0)
        return out

    def counted(self, folded: Mapping[str, By]) -> Counter[str]:
        """Of each content, impressions of all these servers that are folded."""
        out: Counter[str] = Counter()
        for name, share in self.servers.items():
            out.update(share.shown if share.settled else folded.get(name, {}))
        return out

    def ended(self, offsets: By, before_ms: int) -> list[str]:
        """Servers of which nothing more can come in: all that they logged is folded.

        A journal has one writer at a time, and is folded in order. So once its fold (``offsets``, by journal) has come
        to where a later server began, the earlier one is dead and counted. Where entries come by a broker, in other
        partitions, only time tells: not heard of since ``before_ms``.
        """
        began: By = {}
        for share in self.servers.values():
            began[share.journal] = max(began.get(share.journal, 0), share.began)
        return [
            name
            for name, share in self.servers.items()
            if not share.settled
            and (share.at_ms < before_ms or share.began < began[share.journal] <= offsets.get(share.journal, 0))
        ]

    def settle(self, server: str, folded: By) -> None:
        """A server that ended: what it had left is free again. ``folded``: what it showed, as the log has it."""
        share = self.servers[server]
        ours = share.reserved.keys() | share.shown.keys()  # not contents that are gone
        share.shown = {c: most for c in ours if (most := max(folded.get(c, 0), share.shown.get(c, 0))) > 0}
        share.reserved, share.published, share.settled = dict(share.shown), dict(share.shown), True

    def bury(self, contents: Iterable[str]) -> None:
        """Drop contents that are gone, and servers that nothing is known of any more."""
        for content in contents:
            for share in self.servers.values():
                for part in (share.reserved, share.published, share.shown):
                    part.pop(content, None)
        self.servers = {name: share for name, share in self.servers.items() if share.reserved or share.shown}

    def publish(self, number: int, available: By, alive: Iterable[str]) -> dict[str, By]:
        """Allowances of the tick ``number``.

        Args:
            available: of each content with a grant, granted - released since the grant's account was opened: servers
                together may show that much and no more. A content that is not in it is to be shown no longer.
            alive: servers that reported lately.
        """
        living = sorted(alive)
        traffic = {server: self.servers[server].traffic + 1 for server in living}
        total = sum(traffic.values())
        for share in self.servers.values():
            share.number = number
            # Lowered first: to what was shown, and what is handed out below comes on top.
            share.published = dict(share.shown)
        for content, most in available.items():
            shown = sum(share.shown.get(content, 0) for share in self.servers.values())
            left, free = max(most - shown, 0), most - self.reserved(content)
            for server in living:
                share = self.servers[server]
                wanted = share.shown.get(content, 0) + -(-left * traffic[server] // total)
                reserved = share.reserved.get(content, 0)
                given = min(wanted, reserved + max(free, 0))
                if given > reserved:
                    free -= given - reserved
                    share.reserved[content] = given
                share.published[content] = given
        return {server: dict(self.servers[server].published) for server in living}
