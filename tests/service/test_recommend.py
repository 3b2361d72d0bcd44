"""The fast path: what is shown and to whom, and that a logged slate can be built again bit for bit."""

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from service_samples import (
    DAY_MS,
    HOUR_MS,
    NOW,
    any_request,
    asked,
    decided,
    known_user,
    request,
    server,
    shown,
)  # fmt: skip
from slate_samples import chosen, lines_of, regulated

from upwell.regulator import slate
from upwell.regulator.trust.judge import NARROWED
from upwell.service import wire
from upwell.service.recommend import Window
from upwell.service.records import key_of


def test_every_logged_slate_is_built_again_bit_for_bit(logged):
    for line in logged:
        assert line.question is not None
        assert chosen(wire.again(line)) == chosen(regulated(line))
    kinds = {p.kind for line in logged for p in regulated(line)}
    assert kinds == {slate.ORGANIC, slate.EXPLORED, slate.HEATED}
    assert any(len(line.places) < line.question.size for line in logged)
    assert any(line.instead for line in logged)


@pytest.mark.slow
def test_every_logged_slate_of_many_servers_is_built_again_bit_for_bit():
    lines = [line for seed in (2, 3) for line in lines_of(seed, 130, 60)]
    assert len(lines) > 6_000
    assert all(chosen(wire.again(line)) == chosen(regulated(line)) for line in lines)


def test_a_slate_without_a_question_is_what_was_shown():
    live = server(0)
    (line,) = shown(live, [request("u1", ["c1", "c2", "c3"], size=2)], why="deadline")
    assert line.question is None
    assert [p.id for p in wire.again(line)] == ["c1", "c2"]


def test_candidates_come_in_the_rankers_order_with_ties_by_id():
    live = server(0)
    got = asked(live, request("u1", ["c9", "c10", "c2", "c30", "x"], [1.0, 2.0, 1.0, 1.0, 3.0]), "d")
    assert got.ids == ["x", "c10", "c2", "c30", "c9"]
    assert got.contents.tolist() == [-2, *(live.contents.rows.at[id] for id in got.ids[1:])]
    assert got.keys.tolist() == [key_of(id) for id in got.ids]


def test_zero_and_minus_zero_are_a_tie():
    assert asked(server(0), request("u1", ["b", "a"], [0.0, -0.0]), "d").ids == ["a", "b"]


def test_an_id_given_twice_keeps_its_better_score():
    live = server(0)
    got = asked(live, request("u1", ["c1", "c2", "c3", "c1", "x", "x"], [1.0, 5.0, 3.0, 4.0, 2.0, 6.0]), "d")
    assert got.ids == ["x", "c2", "c1", "c3"]
    assert len(got.contents) == len(got.keys) == 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        asked(server(0), request("u1", ["c1", "c2"], [1.0, bad]), "d")


def test_the_organic_places_are_the_rankers_order(logged):
    for line in logged:
        ranked = line.question.candidates
        organic = [ranked.index(p.id) for p in regulated(line) if p.kind == slate.ORGANIC]
        assert len(set(organic)) == len(organic)
        blocked = wire.blocked_of(line.question)
        scores = wire.scores_of(line.question)
        best = [i for i in np.argsort(-scores, kind="stable") if not blocked[i]]
        assert organic == best[: len(organic)]


def test_no_slate_shows_anything_twice(logged):
    for line in logged:
        ids = [p.id for p in regulated(line)]
        assert len(ids) == len(set(ids))
        assert len(ids) <= line.question.size


def test_nothing_is_left_out_that_could_fill_a_place(logged):
    for line in logged:
        free = int((~wire.blocked_of(line.question)).sum())
        heated = sum(p.kind == slate.HEATED for p in regulated(line))
        assert len(regulated(line)) >= min(line.question.size, free)
        assert len(regulated(line)) <= free + heated


def test_what_is_excluded_is_shown_nowhere():
    rng = np.random.default_rng(3)
    live = server(3)
    names = list(live.contents.rows.at)
    seen = set()
    for number in range(60):
        exclude = tuple(rng.choice(names, 100, replace=False).tolist())
        wanted = request(f"u{number % 60}", rng.choice(names, 60, replace=False).tolist(), size=10, exclude=exclude)
        (line,) = shown(live, [wanted], NOW + number * 60_000)
        assert not {p.id for p in line.places} & set(exclude)
        seen |= {p.kind for p in line.places}
    assert seen == {slate.ORGANIC, slate.EXPLORED, slate.HEATED}


def test_without_injection_grants_reach_candidates_only():
    rng = np.random.default_rng(4)
    live = server(4)
    names = list(live.contents.rows.at)
    heated = {True: 0, False: 0}
    for number in range(80):
        ids = rng.choice(names, 40, replace=False).tolist()
        inject = number % 2 == 0
        (line,) = shown(live, [request(f"u{number % 60}", ids, size=10, inject=inject)], NOW + number * 60_000)
        outside = [p for p in line.places if p.id not in ids]
        heated[inject] += sum(p.kind == slate.HEATED for p in line.places)
        assert all(p.kind == slate.HEATED for p in outside)
        assert inject or not outside
    assert heated[True] > 0
    assert heated[False] > 0


# ---- repeats


def test_what_was_shown_is_not_shown_again_while_there_is_enough_else():
    live = server(5)
    names = [f"c{n}" for n in range(60)]
    earlier: set[str] = set()
    for number in range(5):
        (line,) = shown(live, [request("u3", names, size=10, inject=True)], NOW + number * 60_000)
        ids = {p.id for p in line.places}
        assert len(ids) == 10
        assert not ids & earlier
        earlier |= ids


def test_repeats_come_last_where_there_is_not_enough_else():
    live = server(5)
    live.users.held_out[:] = True  # the ranker's order stands
    names = [f"c{n}" for n in range(8)]
    shown(live, [request("u3", names[:5], size=5)])
    (line,) = shown(live, [request("u3", names, size=6)], NOW + 60_000)
    assert [p.id for p in line.places] == ["c5", "c6", "c7", "c0", "c1", "c2"]


def test_a_doubtful_content_is_heated_to_trusted_users_alone():
    heated = {False: 0, True: 0}
    for doubted in heated:
        live = server(5, segments=1, holdout=0.0)
        live.contents.embedding[:] = live.users.record["profile"][live.users.rows.at["u3"]]
        live.contents.low[:] = NARROWED
        live.users.doubted[live.users.rows.at["u3"]] = doubted
        for number in range(8):
            ids = [f"stranger{number}-{n}" for n in range(20)]
            (line,) = shown(live, [request("u3", ids, size=5)], NOW + number * 60_000)
            heated[doubted] += sum(p.kind == slate.HEATED for p in line.places)
        live.contents.low[:] = NARROWED - 0.01  # of what is not doubtful everybody may see some
        (line,) = shown(live, [request("u3", [f"other-{n}" for n in range(20)], size=5)], NOW + 3_600_000)
        assert any(p.kind == slate.HEATED for p in line.places)
    assert heated[False] > 3
    assert heated[True] == 0


def test_repeats_are_not_heated_either():
    live = server(5, segments=1, holdout=0.0)
    live.contents.embedding[:] = live.users.record["profile"][live.users.rows.at["u3"]]  # suits this user best
    seen: set[str] = set()
    heated = []
    for number in range(12):
        ids = [f"stranger{number}-{n}" for n in range(20)]
        (line,) = shown(live, [request("u3", ids, size=5)], NOW + number * 60_000)
        heated += [p.id for p in line.places if p.kind == slate.HEATED]
        assert not set(heated[-1:]) & seen
        seen |= {p.id for p in line.places}
    assert len(heated) == len(set(heated)) > 5


def test_repeats_are_not_tried_out_either():
    live = server(5, holdout=0.0)
    row = live.users.rows.at["u3"]
    live.users.record["created_ms"][row] = 0
    live.users.record["mind"][row] = (0.0, 1.0, 1.0, 1.0)
    explored = 0
    for number in range(8):
        ids = [f"c{n}" for n in range(120)]
        before = live.users.record["ring"][row].tolist()
        (line,) = shown(live, [request("u3", ids, size=10)], NOW + number * 60_000)
        explored += sum(p.kind == slate.EXPLORED for p in line.places)
        assert not {key_of(p.id) & 0xFFFF for p in line.places} & {short for short in before if short}
    assert explored > 8


def test_a_new_window_forgets_what_was_shown():
    live = server(5)
    live.users.held_out[:] = True
    names = [f"c{n}" for n in range(30)]
    window = round(live.settings.no_repeat_h * HOUR_MS)
    end = (NOW // window + 1) * window
    (first,) = shown(live, [request("u3", names, size=5)], end - 2)
    (second,) = shown(live, [request("u3", names, size=5)], end - 1)
    (third,) = shown(live, [request("u3", names, size=5)], end)
    assert [p.id for p in first.places] == names[:5]
    assert [p.id for p in second.places] == names[5:10]
    assert [p.id for p in third.places] == names[:5]


# ---- who is left alone


def test_the_new_are_not_explored_on_and_the_holdout_is_left_alone():
    rng = np.random.default_rng(6)
    live = server(6, users=200, holdout=0.3)
    live.platform_ctr = 0.05
    names = list(live.contents.rows.at)
    explored, heated = {"new": 0, "held": 0, "free": 0}, {"new": 0, "held": 0, "free": 0}
    for number in range(60):
        users = rng.choice(200, 20, replace=False)
        batch = [request(f"u{u}", rng.choice(names, 60, replace=False).tolist(), size=10) for u in users]
        for line in shown(live, batch, NOW + number * 60_000):
            row = live.users.rows.at[line.user_id]
            age_ms = line.ts - int(live.users.record["created_ms"][row])
            side = "held" if live.users.held_out[row] else "new" if age_ms < 3 * DAY_MS else "free"
            explored[side] += sum(p.kind == slate.EXPLORED for p in line.places)
            heated[side] += sum(p.kind == slate.HEATED for p in line.places)
            if side != "free":
                assert not any(p.stochastic for p in line.places)
    assert explored["free"] > 100
    assert explored["new"] == explored["held"] == 0
    assert heated["new"] > 50
    assert heated["held"] == 0


@pytest.mark.parametrize(("age_ms", "may"), [(3 * DAY_MS - 1, False), (3 * DAY_MS, True)])
def test_protection_ends_after_three_days_to_the_millisecond(age_ms, may):
    live = server(6, holdout=0.0)
    known_user(live, "young", created_ms=NOW - age_ms)
    got = decided(live, [asked(live, request("young", [f"c{n}" for n in range(40)]), "d")], 10)
    assert (got.question.exploration.probability[0, 0] > 0) == may


def test_a_user_never_seen_is_new():
    live = server(6, holdout=0.0)
    got = decided(live, [asked(live, request("nobody", [f"c{n}" for n in range(40)]), "d")], 10)
    assert got.question.exploration.probability[0, 0] == 0
    codes = {code for bits in got.bits[0, 0].tolist() for code in wire.reason_names(bits)}
    assert "kept_from_new_user" in codes


def test_the_throttle_turns_exploration_down():
    live = server(6, holdout=0.0)
    one = [asked(live, request("u1", [f"c{n}" for n in range(40)]), "d")]
    live.users.record["created_ms"][:] = 0
    free = decided(live, one, 10, window=Window(1_000_000, 0, 1.0)).question.exploration.probability
    tight = decided(live, one, 10, window=Window(1_000_000, 0, 0.25)).question.exploration.probability
    assert free[0, 0] > 0
    assert tight[0, 0] == pytest.approx(0.25 * free[0, 0])


# ---- NumPy and JAX


@pytest.mark.slow
def test_numpy_and_jax_build_identical_slates_from_ten_thousand_requests():
    built = {size: jax.jit(lambda q, size=size: slate.build(jnp, size=size, **q._asdict())) for size in (1, 5, 10, 20)}
    rng = np.random.default_rng(21)
    live = server(21, contents=200, users=100)
    requests, kinds = 0, np.zeros(3, int)
    for number in range(160):
        size = int(rng.choice([1, 5, 10, 20]))
        users = rng.choice(100, 64, replace=False)
        batch = [any_request(live, rng, f"u{u}", size) for u in users[1:]]
        names = [f"c{n}" for n in range(150)]
        # The widest, so that all batches have one shape and need one program.
        batch.append(request(f"u{users[0]}", names, rng.integers(0, 9, 150), size))
        for i, one in enumerate(batch):
            shown(live, [one], NOW + number * 30_000) if i % 9 == 0 else None
        got = decided(live, [asked(live, one, f"d{number}-{i}") for i, one in enumerate(batch)], size)
        assert got.question.exploration is not None
        theirs = built[size](jax.tree.map(jnp.asarray, got.question))
        np.testing.assert_array_equal(got.picked.ids, np.asarray(theirs.ids))
        np.testing.assert_array_equal(got.picked.kind, np.asarray(theirs.kind))
        np.testing.assert_array_equal(got.picked.stochastic, np.asarray(theirs.stochastic))
        np.testing.assert_array_equal(got.picked.column, np.asarray(theirs.column))
        np.testing.assert_allclose(got.picked.propensity, np.asarray(theirs.propensity), rtol=1e-4)
        requests += len(batch)
        kinds += np.bincount(got.picked.kind.ravel(), minlength=3)
    assert requests > 10_000
    assert (kinds > 1_000).all()


def test_the_logged_question_is_json(logged):
    line = next(line for line in logged if line.question.grants)
    raw = msgspec.json.decode(wire.encoder.encode(line))
    assert raw["schema"] == 1
    assert raw["question"]["candidates"] == line.question.candidates
