"""Decisions joined with what became of them: each thing once, in any order, and gains by hand."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upwell.agents.dials import TURNS
from upwell.agents.observe import SEES
from upwell.model import Interaction, Weights
from upwell.online.experience import BREADTH, EARLY_EVENTS, GONE_MS, HELD, Experience, tags_of
from upwell.regulator.slate import ORGANIC
from upwell.service import wire
from upwell.service.keys import digest_of
from upwell.service.learned import WINDOW_MS

NOW = 90_000 * WINDOW_MS
GOAL = Weights(user_satisfaction=0.4, platform_revenue=0.3, long_term=0.3)


def seen(tags: float = 5.0) -> np.ndarray:
    out = np.zeros(len(SEES["user"]), np.float32)
    out[BREADTH] = np.log1p(tags) - 2.0
    return out


def decision(id: str, user: str = "u", ts: int = NOW, tags: float = 5.0, credit: float = 0.0, **given) -> wire.Logged:
    """A slate of two."""
    noise = np.full(len(TURNS["user"]), 0.2, np.float32)
    turned = wire.Turned(seen(tags).tobytes(), (noise + 0.5).tobytes(), noise.tobytes(), 0.1, credit)
    places = [wire.Place(name, ORGANIC, 1.0, False, ("ranker",)) for name in ("a", "b")]
    values = {"turned": turned, "places": places} | given
    return wire.Logged(
        1, id, user, ts, "s", arm="marl", policy_version="v1", weights_version="0", weights=GOAL, **values
    )


def event(id: str, decision_id: str, content: str = "a", user: str = "u", **given) -> Interaction:
    values = {"ts": NOW, "kind": "click", "clicked": True, "completion": 0.9} | given
    return Interaction(event_id=id, decision_id=decision_id, content_id=content, user_id=user, **values)


def test_a_step_is_given_out_when_the_user_comes_again():
    lived = Experience()
    assert lived.decided(decision("d1", credit=0.25)) is None
    assert lived.decided(decision("d2", ts=NOW + 1_000, tags=9.0)) is None  # the same hours: what was seen first counts
    lived.told(event("e1", "d1", value=3.0))
    lived.told(event("e2", "d2", "b", completion=0.1))
    step = lived.decided(decision("d3", ts=NOW + WINDOW_MS, tags=7.0))
    assert (step.user, step.ts, step.version) == ("u", NOW, "v1")
    np.testing.assert_allclose(step.noise, 2.0, rtol=1e-6)  # 0.2 over a deviation of 0.1
    np.testing.assert_allclose(step.action, 0.7, rtol=1e-6)
    assert tags_of(step.seen) == pytest.approx(5.0, rel=1e-5)
    assert tags_of(step.next_seen) == pytest.approx(7.0, rel=1e-5)
    assert (step.clicks, step.impressions) == (2, 4)
    # The only hours so far are the mean ones: watching and money bring what they bring in the mean.
    assert step.gain == pytest.approx(0.3 / 3.0 * ((7.0 - 5.0) / 23.0 + 0.25), rel=1e-4)


def test_gains_are_over_what_the_mean_slate_brings():
    lived = Experience()
    for n in range(2):  # two users, one slate each: one watches one and buys, the other clicks and regrets
        lived.decided(decision(f"d{n}", user=f"u{n}"))
    lived.told(event("e0", "d0", user="u0", value=4.0))
    lived.told(event("e1", "d1", user="u1", completion=0.0))
    first = lived.decided(decision("n0", user="u0", ts=NOW + WINDOW_MS))
    second = lived.decided(decision("n1", user="u1", ts=NOW + WINDOW_MS))
    assert first.gain == pytest.approx(0.0)
    # Now the mean slate brought about (1 - .5) / 2 watched and 4 / 2 of money; this one -.5 and nothing.
    assert second.gain == pytest.approx(0.4 * (-0.5 / 0.25 - 1.0) + 0.3 * (0.0 - 1.0), rel=0.01)


def test_who_does_not_come_again_is_gone():
    lived = Experience()
    lived.decided(decision("d1"))
    assert list(lived.gone(NOW + GONE_MS)) == []
    (step,) = lived.gone(NOW + GONE_MS + 2 * WINDOW_MS)
    assert step.next_seen is None
    assert lived.open == lived.user_of == {}


def test_what_is_not_learned_from_is_not_kept():
    lived = Experience()
    assert lived.decided(decision("d1", turned=None)) is None
    lived.told(msgspec.structs.replace(event("e", "d"), decision_id=None))
    assert lived.open == {}
    assert lived.early == {}


def test_of_a_decision_that_is_over_no_flood_is_kept():
    """Regression: one user who told of an old slate without end made the learner's state hundreds of megabytes."""
    lived = Experience()
    for n in range(5_000):
        lived.told(event(f"e{n}", "over"))
    lived.told(event("one", "d1"))
    assert len(lived.early["over"]) == EARLY_EVENTS
    lived.decided(decision("d1"))
    step = lived.decided(decision("d2", ts=NOW + WINDOW_MS))
    assert step.clicks == 1


def test_of_the_holdout_it_is_kept_what_they_clicked():
    lived = Experience()
    assert lived.decided(decision("d1", turned=None), held=True) is None
    lived.told(event("e1", "d1", value=5.0))
    step = lived.decided(decision("d2", turned=None, ts=NOW + WINDOW_MS), held=True)
    assert (step.version, step.clicks, step.impressions, step.gain) == (HELD, 1, 2, 0.0)
    assert len(step.seen) == 0
    assert lived.mean.windows == 0.0  # what slates bring is what policies' slates bring


def test_a_slate_that_was_not_shown_counts_for_nothing():
    lived = Experience()
    places = decision("d").places
    lived.decided(decision("d1", credit=0.5, instead=places))
    lived.told(event("e1", "d1"))
    step = lived.decided(decision("d2", ts=NOW + WINDOW_MS))
    assert (step.clicks, step.impressions, step.gain) == (0, 0, 0.0)


def test_events_of_another_user_or_content_are_not_counted():
    lived = Experience()
    lived.decided(decision("d1"))
    lived.told(event("e1", "d1", user="somebody"))
    lived.told(event("e2", "d1", content="c"))
    assert lived.decided(decision("d2", ts=NOW + WINDOW_MS)).clicks == 0


def test_erased_users_leave_nothing():
    lived = Experience()
    lived.decided(decision("d1"))
    lived.told(event("e1", "later"))
    lived.erase(digest_of("u"))
    assert msgspec.to_builtins(lived) == msgspec.to_builtins(Experience())


HISTORY = [
    decision("d1"), decision("d2", ts=NOW + 5), event("e1", "d1"), event("e2", "d1", dwell_s=31.0),
    event("e3", "d2", "b", value=2.0), event("e3", "d2", "b", value=2.0), event("e4", "d2", "a", completion=0.0),
]  # fmt: skip


@given(st.permutations(HISTORY), st.integers(0, len(HISTORY)))
@settings(max_examples=80)
def test_any_order_any_repetition_and_any_restart_give_the_same_step(order, restart_at):
    """Decisions come in their order, as their partition has them; all else as it likes, some of it twice."""
    lived = Experience()
    decisions = iter([one for one in HISTORY if isinstance(one, wire.Logged)])
    for n, one in enumerate(itertools.chain(order, order[:3])):
        if n == restart_at:
            lived = msgspec.msgpack.decode(msgspec.msgpack.encode(lived), type=Experience)
        if isinstance(one, wire.Logged):
            one = next(decisions, one)
            assert lived.decided(one) is None
        else:
            lived.told(one)
    step = lived.decided(decision("d3", ts=NOW + WINDOW_MS))
    assert (step.clicks, step.impressions) == (3, 4)
    assert lived.mean.watched == pytest.approx(2.0 - 0.5)
    assert lived.mean.money == 2.0
