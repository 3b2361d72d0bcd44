"""Contributions add up to what was compared, reasons say why, and a day's log is the day that was lived."""

import jax
import msgspec
import numpy as np
import pytest

from upwell.agents.xp import quantise
from upwell.arms.rules import rules
from upwell.model import Decision
from upwell.regulator import explain, slate
from upwell.world import decisions, world
from upwell.world.config import reference_world

SMALL = reference_world().override(
    {"sizes.users": 400, "sizes.contents": 600, "sizes.creators": 60, "sizes.segments": 2}
)


@pytest.fixture(scope="module")
def start() -> world.WorldState:
    state = world.burnt_in(SMALL, 3, 8)
    for _ in range(2):
        state, _ = world.run_day(SMALL, rules, state)
    return state


@pytest.fixture(scope="module")
def day(start) -> tuple[world.Day, list[decisions.Line]]:
    lived = list(decisions.ticks(SMALL, rules, start))
    return lived[-1][0], [told for _, told in lived]


def one_slate() -> tuple[slate.Question, slate.Slate]:
    """Eight candidates for a slate of five: place 2 is heated with content 90, nothing is explored."""
    scores = quantise(np, np.array([[[3.0, 1.0, 2.0, 0.5, 0.25, 0.0, -1.0, -2.0]]], np.float32))
    ids = np.array([[10, 11, 12, 13, 14, 15, 16, 17]], np.int32)
    grants = slate.Grants(
        np.array([[90]], np.int32), quantise(np, np.array([[[1.5]]], np.float32)), np.array([[9]], np.int32)
    )
    asked = slate.Question(ids, scores, np.zeros((1, 1, 8), bool), grants, np.array([[1]], np.int32))
    return asked, slate.build(np, size=5, **asked._asdict())


def test_contributions_by_hand():
    asked, picked = one_slate()
    assert picked.ids[0, 0].tolist() == [10, 12, 90, 11, 13]
    similarity = asked.scores / 1024.0 - 0.25
    logit, named = explain.contributions(
        np, asked, picked,
        {"similarity": similarity, "record": np.full((1, 1, 1), 0.25)},
        {"fit": np.array([[[1.0002]]]), "promise": np.array([[[0.4998]]])}, {},
    )  # fmt: skip
    assert logit[0, 0].tolist() == [3.0, 2.0, 1.5, 1.0, 0.5]
    assert named["similarity"][0, 0].tolist() == [2.75, 1.75, 0.0, 0.75, 0.25]
    assert named["record"][0, 0].tolist() == [0.25, 0.25, 0.0, 0.25, 0.25]
    assert named["fit"][0, 0].tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    assert named["promise"][0, 0, 2] == 512 / 1024
    assert (sum(named.values()) == logit).all()


@pytest.mark.parametrize(
    ("owed", "held_out", "protected", "slots", "at_two"),
    [
        (True, False, False, 1, ("heated:chance",)),
        (False, False, False, 1, ("heated:grant",)),
        (False, False, False, 0, ("ranker", "cap_reached")),
        (False, True, True, 0, ("ranker", "holdout")),
        (False, False, True, 1, ("heated:grant",)),
    ],
)
def test_reasons_of_the_heated_place(owed, held_out, protected, slots, at_two):
    asked, _ = one_slate()
    asked = asked._replace(slots=np.array([[slots]], np.int32))
    picked = slate.build(np, size=5, **asked._asdict())
    flag = np.array([[held_out]])
    bits = explain.reasons(np, asked, picked, np.full((1, 1, 5), owed), flag, np.array([[protected]]))
    assert explain.names(int(bits[0, 0, 2])) == at_two
    assert explain.names(int(bits[0, 0, 0])) == ("ranker",)


def test_reasons_of_an_explorable_place_kept_from_a_new_user():
    scores = np.zeros((1, 1, 20), np.float32)
    exploration = slate.Exploration(
        np.zeros((1, 1), np.float32), scores, np.full((1, 1, 2), 0.5), np.full((1, 1, 2, 20), 0.5)
    )
    ids = np.arange(20, dtype=np.int32)[None]
    asked = slate.Question(ids, scores, np.zeros((1, 1, 20), bool), None, None, exploration)
    picked = slate.build(np, size=10, **asked._asdict())
    new, no = np.array([[True]]), np.array([[False]])
    bits = explain.reasons(np, asked, picked, np.zeros((1, 1, 10), bool), no, new)
    kept = [k for k in range(10) if "kept_from_new_user" in explain.names(int(bits[0, 0, k]))]
    assert tuple(kept) == slate.explored_places(10)


@pytest.mark.slow
def test_the_day_in_ticks_is_the_day(start, day):
    last, _ = day
    state, report = world.finish_day(SMALL, last)
    expected, its_report = world.run_day(SMALL, rules, jax.tree.map(lambda x: x.copy(), start))
    # Two programs: their floats may differ in the last bit, what was shown and clicked may not.
    for one, two in zip(jax.tree.leaves(state.users), jax.tree.leaves(expected.users), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    for name in ("impressions", "clicks", "heated", "explored", "requests", "ledger", "today"):
        np.testing.assert_array_equal(report[name], its_report[name], err_msg=name)


@pytest.mark.slow
def test_numpy_builds_every_logged_slate_again(day):
    """The world decides in JAX; the same question in NumPy gives the same slates, content by content."""
    many = kinds = 0
    for told in day[1]:
        again = slate.build(np, size=SMALL.sizes.slate, **told.question._asdict())
        np.testing.assert_array_equal(again.ids, told.picked.ids)
        np.testing.assert_array_equal(again.kind, told.picked.kind)
        np.testing.assert_array_equal(again.stochastic, told.picked.stochastic)
        np.testing.assert_allclose(again.propensity, told.picked.propensity, rtol=1e-4)
        many += int(told.present.sum())
        kinds |= int(np.bitwise_or.reduce(1 << told.picked.kind[told.present].ravel(), initial=0))
    assert many > 300
    assert kinds == 0b111  # organic, explored and heated places were all among them


@pytest.mark.slow
def test_contributions_add_up_to_the_logit_exactly(day):
    for told in day[1]:
        logit, named = told.explanation.logit, told.explanation.contributions
        here = told.present
        assert (sum(v[here].astype(np.float64) for v in named.values()) == logit[here]).all()
        # Rounding closes the sum and explains nothing: half a step for each part and for the whole.
        assert np.abs(named["rounding"][here]).max(initial=0.0) <= 3.0 / 1024
    shown = [told.explanation.contributions for told in day[1]]
    for name in ("similarity", "record", "noise", "fit", "promise", "novelty", "reach"):
        assert any((named[name] != 0).any() for named in shown), name


@pytest.mark.slow
def test_reasons_agree_with_what_was_shown(day):
    for told in day[1]:
        for at in zip(*np.nonzero(told.present), strict=True):
            for k in range(SMALL.sizes.slate):
                codes = explain.names(int(told.explanation.reasons[at][k]))
                kind = int(told.picked.kind[at][k])
                assert codes[0].split(":")[0] == ("ranker", "explored", "heated")[kind]


@pytest.mark.slow
def test_decisions_are_written_once_and_the_same(start, tmp_path):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    written = decisions.write_last_day(SMALL, rules, start, 1, one, share=0.1)
    decisions.write_last_day(SMALL, rules, start, 1, two, share=0.1)
    assert one.read_bytes() == two.read_bytes()
    log = [msgspec.json.decode(row, type=Decision) for row in one.read_bytes().splitlines()]
    assert len(log) == written > 100
    assert len({d.decision_id for d in log}) == written
    for decision in log:
        assert decision.arm == "rules"
        assert len(decision.items) == SMALL.sizes.slate
        for item in decision.items:
            assert sum(item.contributions.values()) == item.logit
            assert item.stochastic or item.propensity == 1.0
    assert any(item.heated for d in log for item in d.items)
    assert not {b"quality", b"interest", b"clickbait", b"true"} & set(
        one.read_bytes().replace(b":true", b"").split(b'"')
    )
