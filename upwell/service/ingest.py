"""Interactions as they come in: each is accepted, known already, or rejected with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from upwell.model import Interaction, Rejected
from upwell.service.keys import organic_key
from upwell.service.memory import Memory
from upwell.service.settings import Settings

HOUR_MS = 3_600_000


class Many(msgspec.Struct):
    events: list[Interaction]


class Raws(msgspec.Struct):
    events: list[msgspec.Raw]


many_decoder = msgspec.json.Decoder(Many)
raws_decoder = msgspec.json.Decoder(Raws)
one_decoder = msgspec.json.Decoder(Interaction)


def parse(body: bytes) -> tuple[list[tuple[int, Interaction]], list[Rejected]]:
    """The events of a call and those that are not well-formed. Raises ``msgspec.DecodeError`` on a body that is not
    ``{"events": […]}`` at all."""
    try:
        return _parsed(body)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def _parsed(body: bytes) -> tuple[list[tuple[int, Interaction]], list[Rejected]]:
    try:
        return list(enumerate(many_decoder.decode(body).events)), []
    except (msgspec.ValidationError, ValueError):
        # Slower, event by event, so that one bad event does not take the others with it.
        good: list[tuple[int, Interaction]] = []
        bad: list[Rejected] = []
        for index, raw in enumerate(raws_decoder.decode(body).events):
            try:
                good.append((index, one_decoder.decode(raw)))
            except (msgspec.ValidationError, ValueError) as error:
                bad.append(Rejected(index, "invalid", str(error)))
        return good, bad


def unknown_decisions(live: Memory, events: Iterable[Interaction]) -> set[str]:
    """Decisions that must be read from the store before ``check``: theirs are not at hand."""
    return {e.decision_id for e in events if e.decision_id is not None and e.decision_id not in live.slates}


def unknown_outcomes(live: Memory, events: Iterable[Interaction]) -> set[str]:
    """Outcomes that must be read from the store before events are folded."""
    keys = {e.decision_id or organic_key(e) for e in events}
    return {key for key in keys if key not in live.outcomes}


EVENTS_OF_ONE = 1_000
"""Of one slate, or of what a user did with one content elsewhere, at most: each is remembered, so that none counts
twice, and whoever tells without end would make that memory without bound."""


def check(
    settings: Settings, live: Memory, events: Sequence[tuple[int, Interaction]], now_ms: int
) -> tuple[list[Interaction], int, list[Rejected]]:
    """What is to be taken, how many are known already, and what is rejected."""
    latest, earliest = now_ms + settings.skew_s * 1_000, now_ms - settings.late_h * HOUR_MS
    slates, outcomes, at = live.slates, live.outcomes, live.contents.rows.at
    good: list[Interaction] = []
    bad: list[Rejected] = []
    known, batch, more = 0, set[tuple[str, str]](), Counter[str]()
    for index, event in events:
        if not earliest <= event.ts <= latest:
            late = event.ts < earliest
            code = "too_late" if late else "from_the_future"
            limit = f"older than {settings.late_h:g} h" if late else f"more than {settings.skew_s:g} s ahead"
            bad.append(Rejected(index, code, f"ts is {limit} of the server's clock"))
            continue
        decision = event.decision_id
        if decision is None:
            if event.content_id not in at:
                bad.append(Rejected(index, "unknown_content", "no such content: register it, or name a decision_id"))
                continue
            key = organic_key(event)
        else:
            slate = slates.get(decision)
            if slate is None:
                bad.append(Rejected(index, "unknown_decision", "no such decision here yet: retry after a second"))
                continue
            if slate.user_id != event.user_id:
                bad.append(Rejected(index, "wrong_user", "the decision was made for another user"))
                continue
            if event.content_id not in slate.ids:
                bad.append(Rejected(index, "not_shown", "the decision did not show this content"))
                continue
            key = decision
        outcome = outcomes.get(key)
        if (key, event.event_id) in batch or (outcome is not None and event.event_id in outcome.events):
            known += 1
            continue
        if (len(outcome.events) if outcome is not None else 0) + more[key] >= EVENTS_OF_ONE:
            bad.append(Rejected(index, "too_many", f"more than {EVENTS_OF_ONE:,} events of one slate"))
            continue
        batch.add((key, event.event_id))
        more[key] += 1
        good.append(event)
    return good, known, bad
