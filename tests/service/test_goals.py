"""Goals: one goal's weights hold at a time, what is lifted goes back, two keys for large moves; over HTTP too."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.goals.goal import Aim, Bound, Goal, Proposal
from upwell.model import Weights
from upwell.service.audit import PROPOSER, Who
from upwell.service.course import Course, read
from upwell.service.errors import Refused
from upwell.service.goals import KEPT, OVER, Goals, first, shares_of, weights_of
from upwell.state import open_store

BASE = weights_of((0.4, 0.3, 0.3))
ANN, BOB = Who("operator", "Ann"), Who("operator-2", "Bob")
LARGE = 0.3


def weights(user: float, revenue: float, long_term: float) -> Weights:
    return weights_of((user, revenue, long_term))


def asked(id: str, **given) -> Goal:
    return Goal(id=id, text=f"goal {id}", created_at=1, **given)


def proposal(id: str, of: Weights, **given) -> Proposal:
    return Proposal(goal_id=id, weights=of, source="search", created_at=2, **given)


def in_force(goals: Goals, id: str, of: Weights, at_ms: int = 3, **period) -> None:
    """A goal asked for, proposed and approved by both."""
    goals.ask(asked(id, **period), ANN, at_ms)
    goals.propose(proposal(id, of), PROPOSER, at_ms)
    goals.approve(id, "", ANN, at_ms, 1.0, 1)


def states(goals: Goals) -> dict[str, str]:
    return {one.goal.id: one.state for one in goals.goals}


def test_a_goal_in_force_covers_the_one_before_and_gives_way_to_it_again():
    goals, a, b = first(BASE), weights(0.5, 0.3, 0.2), weights(0.3, 0.5, 0.2)
    in_force(goals, "a", a)
    assert (goals.now.weights, goals.now.version, goals.now.goal_id) == (a, "1:a", "a")
    in_force(goals, "b", b)
    assert (goals.now.weights, goals.now.version, states(goals)) == (b, "2:b", {"a": "covered", "b": "live"})
    goals.lift("b", "enough", ANN, 9)
    assert (goals.now.weights, goals.now.version, states(goals)) == (a, "3:a", {"a": "live", "b": "lifted"})
    goals.roll_back("a", "worse", Who("guard"), 10, {})
    assert (goals.now.weights, goals.now.version) == (BASE, "4")
    assert [entry.what for entry in goals.told][-4:] == ["goal_live", "goal_lifted", "goal_live", "goal_rolled_back"]
    assert goals.of("b").before == "1:a"


def test_what_a_model_read_is_the_goals_where_its_words_named_nothing():
    goals, up = first(BASE), Aim(metric="ctr", direction="up")
    bound = Bound(metric="gmv_per_day", low=-0.02, relative=True)
    goals.ask(asked("a", bounds=(bound,)), ANN, 1)
    goals.propose(proposal("a", BASE), ANN, 2)  # an operator's own weights prove nothing
    assert (goals.of("a").goal.aims, goals.of("a").goal.bounds) == ((), (bound,))
    more = Bound(metric="satisfaction_mean", low=0.4)
    goals.propose(proposal("a", BASE, aims=(up,), bounds=(bound, more)), PROPOSER, 3)
    assert (goals.of("a").goal.aims, goals.of("a").goal.bounds) == ((up,), (bound, more))
    goals.propose(proposal("a", BASE, aims=(Aim(metric="dau", direction="up"),)), PROPOSER, 4)
    assert goals.of("a").goal.aims == (up,)


def test_one_beneath_may_end_first():
    goals = first(BASE)
    in_force(goals, "a", weights(0.5, 0.3, 0.2))
    in_force(goals, "b", weights(0.3, 0.5, 0.2))
    goals.lift("a", "", ANN, 9)
    assert goals.now.version == "2:b"  # nothing changed for users
    goals.lift("b", "", ANN, 10)
    assert goals.now.weights == BASE


def test_a_large_move_needs_both_keys():
    goals, far = first(BASE), weights(0.1, 0.8, 0.1)
    goals.ask(asked("a"), ANN, 1)
    goals.propose(proposal("a", far), PROPOSER, 2, automatic=0.2)
    assert goals.of("a").state == "proposed"
    with pytest.raises(Refused, match=r"moves by 0\.50.*set second_token") as alone:
        goals.approve("a", "", ANN, 3, LARGE, 1)
    assert (alone.value.status, alone.value.code) == (409, "needs_two_keys")
    goals.approve("a", "", ANN, 4, LARGE, 2)
    assert (goals.of("a").state, goals.now.weights) == ("waiting_for_key", BASE)
    with pytest.raises(Refused, match="the other key"):
        goals.approve("a", "", Who("operator", "Bob, he says"), 5, LARGE, 2)
    goals.approve("a", "", BOB, 6, LARGE, 2)
    assert goals.now.weights == far
    assert [(e.what, e.who) for e in goals.of("a").history][-3:] == [
        ("waiting_for_key", "operator"), ("approved", "operator-2"), ("live", "operator-2"),
    ]  # fmt: skip


def test_one_key_cannot_go_far_in_steps():
    """Nor can what is taken automatically."""
    for approve in (True, False):
        goals = first(BASE)
        for n in range(1, 9):
            goals.ask(asked(f"g{n}"), ANN, n)
            of = weights(0.4 - n / 20, 0.3 + n / 20, 0.3)
            goals.propose(proposal(f"g{n}", of, meets=True), PROPOSER, n, 0.0 if approve else 0.1)
            if approve:
                with suppress(Refused):
                    goals.approve(f"g{n}", "", ANN, n, LARGE, 1)
        assert goals.now.weights.platform_revenue == pytest.approx(0.6 if approve else 0.4)


def test_another_proposal_needs_both_keys_anew():
    goals = first(BASE)
    goals.ask(asked("a"), ANN, 1)
    for n, by in ((1, ANN), (2, BOB)):
        goals.propose(proposal("a", weights(0.1, 0.8 + n / 100, 0.1)), PROPOSER, 2)
        goals.approve("a", "", by, 4, LARGE, 2)
    assert goals.of("a").state == "waiting_for_key"


@pytest.mark.parametrize(
    ("about", "automatic", "state"),
    [
        ({"meets": True}, 0.2, "live"),
        ({"meets": True}, 0.05, "proposed"),
        ({"meets": True}, 0.0, "proposed"),
        ({"meets": False}, 0.2, "proposed"),
        ({"meets": True, "program": "min(1, match)"}, 0.2, "proposed"),
    ],
)
def test_what_needs_no_operator(about, automatic, state):
    goals = first(BASE)
    goals.ask(asked("a"), ANN, 1)
    goals.propose(proposal("a", weights(0.3, 0.4, 0.3), **about), PROPOSER, 2, automatic)
    assert goals.of("a").state == state
    assert [e.who for e in goals.of("a").history if e.what == "approved"] == ["automatic"] * (state == "live")


def test_periods_hold_by_the_clock():
    goals, a = first(BASE), weights(0.5, 0.3, 0.2)
    in_force(goals, "a", a, 3, from_ms=10, until_ms=20)
    assert states(goals) == {"a": "approved"}
    seen = [goals.at(ms).now for ms in (9, 10, 19, 20)]
    assert [one.weights for one in seen] == [BASE, a, a, BASE]
    assert (seen[1].since_ms, seen[3].since_ms) == (10, 20)  # whenever somebody looks
    assert states(goals.at(20)) == {"a": "expired"}
    assert states(goals) == {"a": "approved"}  # a look changes nothing
    goals.ask(asked("b", until_ms=30), ANN, 25)
    assert states(goals.at(30)) == {"a": "expired", "b": "expired"}  # whatever it had come to


def test_what_cannot_be():
    goals = first(BASE)
    with pytest.raises(Refused, match="no goal 'a'"):
        goals.lift("a", "", ANN, 1)
    goals.ask(asked("a"), ANN, 1)
    with pytest.raises(Refused, match="'a' is asked"):
        goals.approve("a", "", ANN, 1, LARGE, 1)
    goals.refuse("a", "no", ANN, 2)
    with pytest.raises(Refused, match="'a' is refused"):
        goals.lift("a", "", ANN, 3)
    in_force(goals, "a", weights(0.5, 0.3, 0.2))  # asked for again
    with pytest.raises(Refused, match="lift it first"):
        goals.ask(asked("a"), ANN, 4)
    for n in range(KEPT - 1):
        goals.ask(asked(f"g{n}"), ANN, 5)
    with pytest.raises(Refused, match="50 goals are not over"):
        goals.ask(asked("more"), ANN, 6)
    goals.refuse("g7", "", ANN, 7)
    goals.ask(asked("more"), ANN, 8)
    goals.forget()
    assert len(goals.goals) == KEPT
    assert "g7" not in states(goals)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "propose", "approve", "approve", "refuse", "lift", "roll_back", "fail", "wait"]),
        st.sampled_from("abc"),
        st.tuples(*[st.floats(0.0, 1e9)] * 3).filter(lambda w: sum(w) > 0),
        st.sampled_from([None, 3, 20]),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_is_done_in_any_order(steps):
    """One set of weights holds, on the simplex: of the last goal in force, or the settings'."""
    goals = first(BASE)
    for now_ms, (what, id, of, later) in enumerate(steps, 1):
        who = (ANN, BOB)[now_ms % 2]
        calls = {
            "ask": lambda id=id, who=who, now=now_ms, later=later: goals.ask(
                asked(id, until_ms=later and now + later), who, now
            ),
            "propose": lambda id=id, of=of, now=now_ms: goals.propose(
                proposal(id, weights(*of), meets=True), PROPOSER, now, 0.1
            ),
            "approve": lambda id=id, who=who, now=now_ms: goals.approve(id, "", who, now, LARGE, 2),
            "refuse": lambda id=id, who=who, now=now_ms: goals.refuse(id, "", who, now),
            "lift": lambda id=id, who=who, now=now_ms: goals.lift(id, "", who, now),
            "roll_back": lambda id=id, now=now_ms: goals.roll_back(id, "", Who("guard"), now, {}),
            "fail": lambda id=id, now=now_ms: goals.fail(id, "", PROPOSER, now),
            "wait": lambda now=now_ms: None,
        }
        goals.settle(now_ms)
        before, told = goals.now, len(goals.told)
        try:
            calls[what]()
        except Refused:
            assert (goals.now, len(goals.told)) == (before, told)  # a refusal changes nothing
        live = [one.goal.id for one in goals.goals if one.state == "live"]
        assert live == goals.force[-1:]
        assert [one.goal.id for one in goals.goals if one.state == "covered"] == sorted(
            goals.force[:-1], key=[one.goal.id for one in goals.goals].index
        )
        held = goals.of(goals.force[-1]).proposal.weights if goals.force else BASE
        assert goals.now.weights == held
        assert shares_of(goals.now.weights).sum() == pytest.approx(1.0)
        assert [one.number for one in goals.versions] == list(range(len(goals.versions)))
        assert not any(one.goal.id in goals.force for one in goals.goals if one.state in OVER)


# ---- in the store


def test_changes_of_two_processes_both_count(monkeypatch):
    store = open_store("memory:")
    one, other = (Course(store, (0.4, 0.3, 0.3)) for _ in range(2))
    done = []

    def slow(goals: Goals) -> None:
        if not done:
            done.append(other.change(lambda goals: goals.ask(asked("b"), BOB, 5), 5))
        goals.ask(asked("a"), ANN, 6)

    one.change(slow, 6)
    number, goals = read(store, BASE)
    assert (number, states(goals)) == (2, {"b": "asked", "a": "asked"})
    assert len(store.tail("meta", "audit", 10)) == 2


def test_other_settings_hold_where_no_goal_does():
    store = open_store("memory:")
    course = Course(store, (0.4, 0.3, 0.3))
    course.change(lambda goals: in_force(goals, "a", weights(0.5, 0.3, 0.2)), 5)
    again = Course(store, (0.2, 0.4, 0.4))
    again.look(store.offsets(), 6)
    assert again.here(6).version == "1:a"
    again.change(lambda goals: goals.lift("a", "", ANN, 7), 7)
    assert again.read(8).now.weights == weights(0.2, 0.4, 0.4)
    later = Course(store, (1.0, 0.0, 0.0))
    later.look(store.offsets(), 9)
    assert (later.here(9).weights, later.here(9).version) == (weights(1, 0, 0), "3")


def test_what_ends_by_the_clock_is_written_once():
    store = open_store("memory:")
    one, other = (Course(store, (0.4, 0.3, 0.3)) for _ in range(2))
    one.change(lambda goals: in_force(goals, "a", weights(0.5, 0.3, 0.2), 5, until_ms=50), 5)
    for course in (one, other):
        course.look(store.offsets(), 49)
        assert course.here(49).goal_id == "a"
    assert other.here(50).weights == BASE  # with no store at all
    for course in (one, other):
        course.look(store.offsets(), 51)
    assert (one.here(51), store.offsets()["goals"]) == (other.here(51), 2)
    assert states(read(store, BASE)[1]) == {"a": "expired"}
