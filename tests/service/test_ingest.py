"""Interactions as they come in: what is taken, what is known already, what is refused and why."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from service_samples import DAY_MS, HOUR_MS, NOW, content, event, known_user, request, settings, shown, state_of

from upwell.model import Interaction
from upwell.service import ingest, wire
from upwell.service.ingest import Rejected
from upwell.service.live import Live

quick = hypothesis_settings(max_examples=150)


def one_slate(**given) -> tuple[Live, wire.Logged]:
    """Contents c0 to c9; of these "someone" was shown c0 to c4."""
    live = Live(settings(**given), "s")
    for n in range(10):
        live.add_content(content(n), {})
    known_user(live, "someone")
    live.users.held_out[:] = True
    (line,) = shown(live, [request("someone", [f"c{n}" for n in range(10)], size=5)])
    return live, line


@pytest.fixture(scope="module")
def server() -> tuple[Live, wire.Logged]:
    """For tests that fold nothing."""
    return one_slate()


def checked(live: Live, events: list[Interaction], now_ms: int = NOW + 5_000):
    return ingest.check(live.settings, live, list(enumerate(events)), now_ms)


def body(events) -> bytes:
    return json.dumps({"events": events}).encode()


def raw(line: wire.Logged, number: int = 0, **given) -> dict:
    told = {"event_id": f"e{number}", "decision_id": line.decision_id, "content_id": "c1", "user_id": "someone"}
    return told | {"ts": NOW + 1_000, "clicked": True} | given


# ---- what is refused


def test_a_good_event_is_taken(server):
    live, line = server
    one = event(line, 3, "e")
    assert checked(live, [one]) == ([one], 0, [])


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("too_late", {"ts": NOW + 5_000 - 24 * HOUR_MS - 1}),
        ("from_the_future", {"ts": NOW + 5_000 + 300_000 + 1}),
        ("unknown_content", {"decision_id": None, "content_id": "stranger"}),
        ("unknown_decision", {"decision_id": "d-nowhere"}),
        ("wrong_user", {"user_id": "another"}),
        ("not_shown", {"content_id": "c9"}),
        ("not_shown", {"content_id": "stranger"}),
    ],
)
def test_every_reason_to_refuse(server, code, changes):
    live, line = server
    bad = msgspec.structs.replace(event(line, 1, "e"), **changes)
    good = event(line, 2, "f")
    taken, known, rejected = checked(live, [good, bad, good])
    assert (taken, known) == ([good], 1)
    assert [(r.index, r.code) for r in rejected] == [(1, code)]
    assert rejected[0].message


@pytest.mark.parametrize("ts", [NOW + 5_000 - 24 * HOUR_MS, NOW + 5_000 + 300_000])
def test_the_bounds_of_time_are_within(server, ts):
    live, line = server
    assert len(checked(live, [event(line, 0, "e", ts=ts)])[0]) == 1


def test_the_bounds_of_time_are_settings():
    live, line = one_slate(late_h=1.0, skew_s=0.0)
    codes = [
        [r.code for r in checked(live, [event(line, 0, "e", ts=NOW + at)], NOW)[2]]
        for at in (-HOUR_MS - 1, -HOUR_MS, 0, 1)
    ]
    assert codes == [["too_late"], [], [], ["from_the_future"]]


def test_what_was_seen_elsewhere_needs_no_decision_but_a_known_content(server):
    live, _ = server
    one = Interaction(event_id="e", content_id="c9", user_id="whoever", ts=NOW)
    assert checked(live, [one])[0] == [one]


def test_messages_tell_what_to_do_and_quote_nothing(server):
    live, line = server
    secret = "user-with-a-secret-name"
    bad = [
        event(line, 0, secret, ts=0),
        msgspec.structs.replace(event(line, 0, "e"), user_id=secret),
        Interaction(event_id="e", content_id=secret, user_id=secret, ts=NOW),
    ]
    rejected = checked(live, bad)[2]
    assert len(rejected) == 3
    assert all(secret not in r.message for r in rejected)


# ---- what is known already


def test_an_event_twice_in_a_call_and_again_in_a_later_one_is_taken_once():
    live, line = one_slate()
    one, other = event(line, 0, "same", clicked=True), event(line, 1, "same", clicked=True)
    elsewhere = Interaction(event_id="same", content_id="c9", user_id="someone", ts=NOW, clicked=True)
    taken, known, _ = checked(live, [one, other, one, elsewhere, elsewhere])
    assert taken == [one, elsewhere]  # an id is of one decision
    assert known == 3
    for told in taken:
        assert live.take(told)
    assert checked(live, [one, other, elsewhere]) == ([], 3, [])
    after = state_of(live)
    assert not live.take(one)
    assert state_of(live) == after


def test_whoever_tells_of_one_slate_without_end_is_refused():
    """Regression: a million events of one slate were all remembered, and 40 MB were written with each flush."""
    live, line = one_slate()
    most = ingest.EVENTS_OF_ONE
    first, known, bad = checked(live, [event(line, n % 5, f"e{n}") for n in range(most - 1)])
    assert (len(first), known, bad) == (most - 1, 0, [])
    for one in first:
        assert live.take(one)
    good, known, bad = checked(live, [event(line, 0, name) for name in ("last", "e0", "over", "more")])
    assert ([one.event_id for one in good], known) == (["last"], 1)
    assert [(one.index, one.code) for one in bad] == [(2, "too_many"), (3, "too_many")]
    one = msgspec.structs.replace(event(line, 0, "x"), decision_id=None, content_id="c7")
    elsewhere = [msgspec.structs.replace(one, event_id=f"x{n}") for n in range(most + 1)]
    good, _, bad = checked(live, elsewhere)
    assert (len(good), [one.code for one in bad]) == (most, ["too_many"])


def test_an_event_elsewhere_on_another_day_or_of_another_user_is_another():
    live, _ = one_slate()
    one = Interaction(event_id="same", content_id="c9", user_id="someone", ts=NOW)
    others = [one, msgspec.structs.replace(one, user_id="other"), msgspec.structs.replace(one, content_id="c8")]
    others.append(msgspec.structs.replace(one, ts=NOW - 12 * HOUR_MS))
    assert NOW // DAY_MS != (NOW - 12 * HOUR_MS) // DAY_MS
    assert checked(live, others) == (others, 0, [])


def test_what_must_be_read_from_the_store_first():
    live, line = one_slate()
    elsewhere = Interaction(event_id="e", content_id="c9", user_id="someone", ts=NOW)
    events = [event(line, 0, "e"), msgspec.structs.replace(event(line, 0, "f"), decision_id="d-other"), elsewhere]
    assert ingest.unknown_decisions(live, events) == {"d-other"}
    key = f"organic:{NOW // DAY_MS}:7:someone:c9"
    assert ingest.unknown_outcomes(live, events) == {"d-other", key}
    live.take(elsewhere)
    assert ingest.unknown_outcomes(live, events) == {"d-other"}


# ---- bodies


def test_a_body_of_good_events_is_read_whole(server):
    _, line = server
    good, bad = ingest.parse(body([raw(line, n) for n in range(3)]))
    assert bad == []
    assert [i for i, _ in good] == [0, 1, 2]
    assert good[2][1].event_id == "e2"
    assert ingest.parse(b'{"events": []}') == ([], [])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ts": "yesterday"}, "ts"),
        ({"ts": -1}, "ts"),
        ({"ts": 1.5}, "ts"),
        ({"ts": 10**20}, "ts"),
        ({"value": -1}, "value"),
        ({"value": 2e9}, "value"),
        ({"dwell_s": 604_801}, "dwell_s"),
        ({"completion": 1.01}, "completion"),
        ({"clicked": 1}, "clicked"),
        ({"kind": "hover"}, "kind"),
        ({"event_id": ""}, "event_id"),
        ({"event_id": None}, "event_id"),
        ({"event_id": "x" * 129}, "event_id"),
        ({"user_id": "é" * 65}, "user_id"),
    ],
)
def test_a_malformed_event_does_not_take_the_others_with_it(server, change, field):
    live, line = server
    good, bad = ingest.parse(body([raw(line, 0), raw(line, 1, **change), raw(line, 2)]))
    assert [i for i, _ in good] == [0, 2]
    assert [(r.index, r.code) for r in bad] == [(1, "invalid")]
    assert field in bad[0].message
    taken, _, rejected = ingest.check(live.settings, live, good, NOW + 5_000)
    assert len(taken) == 2
    assert rejected == []


@pytest.mark.parametrize("event", [5, None, [], "x", {}, {"event_id": "e"}, [[]]])
def test_what_is_no_event_at_all_is_one_refusal(server, event):
    _, line = server
    good, bad = ingest.parse(body([event, raw(line)]))
    assert [i for i, _ in good] == [1]
    assert [(r.index, r.code) for r in bad] == [(0, "invalid")]


def test_unknown_fields_are_passed_over(server):
    _, line = server
    good, bad = ingest.parse(body([raw(line, 0, screen="home", nested={"a": [1, {"b": None}]})]))
    assert len(good) == 1
    assert not bad


def test_an_event_that_is_not_utf8_is_refused_by_itself(server):
    _, line = server
    whole = body([raw(line, 0), raw(line, 1, user_id="MARK")]).replace(b"MARK", b"\xff\xfe")
    good, bad = ingest.parse(whole)
    assert [i for i, _ in good] == [0]
    assert [(r.index, r.code) for r in bad] == [(1, "invalid")]
    msgspec.json.encode(bad)  # can be told


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "bad",
    [
        b"", b" ", b"{", b"[]", b"null", b"5", b'"events"', b"{}", b'{"events": {}}', b'{"events": null}',
        b'{"events": [}', b'{"events": []', b'{"events": []}}', b'{"events": [1 2]}', b"\xff\xfe",
        b'\xef\xbb\xbf{"events":[]}', b'{"events": [NaN]}', b"{'events': []}", DEEP, b'{"events": ' + DEEP + b"}",
        b'{"x": ' + DEEP + b', "events": []}', b'{"events": [{"event_id": 1}, ' + DEEP + b"]}",
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_refused_whole(bad):
    with pytest.raises(msgspec.DecodeError) as refused:
        ingest.parse(bad)
    assert len(str(refused.value)) < 200


# ---- fuzz


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
near = st.fixed_dictionaries(
    {},
    optional={
        "event_id": st.sampled_from(["a", "b", ""]) | anything,
        "decision_id": st.sampled_from(["DECISION", "nowhere", "DECISION/outcome", None]) | anything,
        "content_id": st.sampled_from(["c0", "c1", "c9", "stranger"]) | anything,
        "user_id": st.sampled_from(["someone", "another"]) | anything,
        "ts": st.sampled_from([NOW, NOW - 23 * HOUR_MS, 0, 10**15]) | anything,
        "kind": st.sampled_from(["view", "click", "dwell", "share", "purchase", "nothing"]),
        "clicked": st.booleans() | anything,
        "dwell_s": st.floats(0, 1e6) | anything,
        "completion": st.floats(-1, 2),
        "value": st.floats(0, 1e10) | anything,
    },
)


def told(live: Live, data: bytes) -> tuple[int, int, list[Rejected]]:
    """A call as the service takes it."""
    events, bad = ingest.parse(data)
    good, known, rejected = ingest.check(live.settings, live, events, NOW + 5_000)
    for one in good:
        live.take(one)
    return len(good), known, bad + rejected


@quick
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_whatever_do_harm(server, data):
    live, _ = server
    before = state_of(live)
    try:
        good, known, _ = told(live, data)
    except msgspec.DecodeError:
        good = known = 0
    assert good == known == 0
    assert state_of(live) == before


@quick
@given(st.lists(near | anything, max_size=6))
def test_every_event_is_taken_known_or_refused_and_only_those_taken_change_anything(server, events):
    template, line = server
    live, _ = one_slate()
    assert line.decision_id in live.slates
    events = json.loads(json.dumps(events).replace("DECISION", line.decision_id))
    sendable = all(math.isfinite(x) for x in floats_of(events))
    data = json.dumps({"events": events}).encode("utf-8")
    before = state_of(live)
    try:
        good, known, bad = told(live, data)
    except msgspec.DecodeError:
        assert not sendable  # NaN and infinities are no JSON
        assert state_of(live) == before
        return
    assert good + known + len(bad) == len(events)
    assert len({r.index for r in bad}) == len(bad)
    if not good:
        assert state_of(live) == before
        assert live.outcomes.keys() == template.outcomes.keys()
    msgspec.json.encode(bad)
    again_good, again_known, again_bad = told(live, data)
    assert (again_good, again_known) == (0, good + known)
    assert again_bad == bad


def floats_of(value) -> list[float]:
    if isinstance(value, float):
        return [value]
    if isinstance(value, list):
        return [x for one in value for x in floats_of(one)]
    return floats_of(list(value.values())) if isinstance(value, dict) else []
