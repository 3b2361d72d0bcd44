"""The fast path: what is shown, to whom, why, and that a logged slate can be built again bit for bit."""

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
    content,
    decided,
    grant,
    known_user,
    request,
    server,
    shown,
    state_of,
)  # fmt: skip

from upwell.regulator import slate
from upwell.regulator.explain import REASONS
from upwell.service import wire
from upwell.service.recommend import Window
from upwell.service.records import COUNTS, key_of

KIND_OF_ROOM = (slate.ORGANIC, slate.EXPLORED, slate.HEATED)


def regulated(line: wire.Logged) -> list[wire.Place]:
    """What was decided: in the shadow something else was shown."""
    return line.instead or line.places


def lines_of(seed: int, batches: int, most: int = 24, **given) -> list[wire.Logged]:
    """Slates of many random batches, as they are logged: through JSON and back."""
    rng = np.random.default_rng(seed)
    live = server(seed, **given)
    lines = []
    for number in range(batches):
        size = int(rng.integers(1, 21))
        users = rng.choice([f"u{n}" for n in range(60)] + ["new1", "new2"], int(rng.integers(1, most)), replace=False)
        shadow = rng.random() < 0.1
        batch = [any_request(live, rng, user, size, shadow=bool(shadow and rng.random() < 0.5)) for user in users]
        lines += shown(live, batch, NOW + number * 40_000)
        if number % 10 == 9:
            grant(live, rng, 3, int(rng.choice([1, 3, 1_000])))
    assert not live.failures
    return [wire.logged_decoder.decode(wire.encoder.encode(line)) for line in lines]


@pytest.fixture(scope="module")
def logged() -> list[wire.Logged]:
    return lines_of(1, 70)


def chosen(places: list[wire.Place]) -> list[tuple]:
    return [(p.id, p.kind, p.propensity, p.stochastic) for p in places]


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


# ---- heating


@pytest.mark.parametrize("size", range(1, 21))
def test_an_hour_of_slates_of_one_size_keeps_the_cap_at_every_moment(size):
    kept_the_cap(size, [size], 40)


def test_an_hour_of_slates_of_every_size_keeps_the_cap_at_every_moment():
    kept_the_cap(99, list(range(1, 21)), 150)


def kept_the_cap(seed: int, sizes: list[int], batches: int) -> None:
    """Grants for everybody, without end: only the cap holds them back. Few candidates now and then."""
    rng = np.random.default_rng(seed)
    live = server(seed, contents=60, users=120, segments=1, left=10**9, holdout=0.0, no_repeat_h=1e-3)
    live.contents.embedding[:] = 0.0
    live.contents.embedding[:, 0] = 1.0
    live.users.record["profile"] = live.contents.embedding[1].astype(np.float16)
    impressions = heated = most = 0
    step = HOUR_MS // (batches + 1)
    for number in range(batches):
        size = int(rng.choice(sizes))
        users = rng.choice(120, int(rng.integers(1, 30)), replace=False)
        few = rng.random() < 0.2
        width = int(rng.integers(0, size)) if few else 30
        ids = [[f"c{n}" for n in rng.choice(60, width, replace=False)] for _ in users]
        shadow = rng.random() < 0.1
        batch = [
            request(f"u{u}", one, size=size, shadow=bool(shadow and u % 2)) for u, one in zip(users, ids, strict=True)
        ]
        for line in shown(live, batch, NOW + number * step):
            hot = sum(p.kind == slate.HEATED for p in line.places)
            assert hot <= max(1, size // 5)
            impressions += len(line.places)
            heated += hot
        assert heated <= live.settings.cap * impressions
        most = max(most, heated)
    assert not live.failures
    a_slate = min(live.settings.cap, min(max(1, size // 5) / size for size in sizes))
    assert most > 0.75 * a_slate * impressions  # nothing but the cap held it back


@pytest.mark.parametrize("cap", [0.0, 0.07, 0.5])
def test_whatever_the_cap_is_it_holds(cap):
    live = server(8, left=10**9, holdout=0.0, cap=cap)
    impressions = heated = 0
    for number in range(60):
        batch = [request(f"u{u}", [f"c{n}" for n in range(100)], size=5) for u in range(number % 4, 60, 7)]
        for line in shown(live, batch, NOW + number * 50_000):
            impressions += len(line.places)
            heated += sum(p.kind == slate.HEATED for p in line.places)
        assert heated <= cap * impressions
    assert (heated > 0) == (cap > 0)


def test_at_the_cap_the_reason_says_so():
    live = server(8, left=10**9, holdout=0.0)
    one = [asked(live, request("u1", [f"c{n}" for n in range(40)], size=10), "d")]
    for window, slots in ((Window(1_000_000, 0, 1.0), 2), (Window(91, 19, 1.0), 1), (Window(90, 20, 1.0), 0)):
        got = decided(live, one, 10, window=window)
        assert got.question.slots[0, 0] == slots
        assert (got.picked.kind == slate.HEATED).sum() == slots
        codes = [wire.reason_names(bits) for bits in got.bits[0, 0].tolist()]
        assert sum("cap_reached" in code for code in codes) == 2 - slots


@pytest.mark.parametrize("left", [1, 2, 5])
def test_a_grant_is_shown_no_more_often_than_it_has_impressions_left(left):
    rng = np.random.default_rng(left)
    live = server(left, segments=2, left=left, holdout=0.0)
    had = live.contents.left.copy()
    times: dict[str, int] = {}
    for number in range(5 + 5 * left):
        size = int(rng.integers(5, 21))
        batch = [
            request(f"u{u}", [f"c{n}" for n in range(150)], size=size, shadow=bool(number % 3 == 0 and u % 4))
            for u in range(0, 60, 2)
        ]
        for line in shown(live, batch, NOW + number * 60_000):
            for place in line.places:
                if place.kind == slate.HEATED:
                    times[place.id] = times.get(place.id, 0) + 1
    assert not live.failures
    for name, row in live.contents.rows.at.items():
        assert times.get(name, 0) <= had[row]
        assert live.contents.left[row] == had[row] - times.get(name, 0)
    assert max(times.values()) == left


def test_grants_of_contents_that_are_gone_are_not_shown():
    live = server(9, left=1_000, holdout=0.0)
    heated = {live.contents.rows.names[row] for row in np.unique(live.grants.rows) if row}
    gone = sorted(heated)[::2]
    for name in gone:
        live.contents.forget(name)
    seen: set[str] = set()
    for number in range(20):
        (line,) = shown(live, [request(f"u{number}", [f"c{n}" for n in range(40)], size=10)], NOW + number)
        assert all(p.id for p in line.places)
        seen |= {p.id for p in line.places if p.kind == slate.HEATED}
    assert not live.failures
    assert seen
    assert not seen & set(gone)


def test_users_in_segments_that_the_last_tick_did_not_know_are_served_by_the_rules():
    """Segments are found anew before grants are matched to them; until then there are more cells than rows."""
    live = server(9, segments=1)
    live.users.segment[:] = 7
    (line,) = shown(live, [request("u1", [f"c{n}" for n in range(40)])])
    assert not live.failures
    assert line.arm == "rules"


def test_the_chance_a_content_is_owed_is_told_from_a_grant():
    live = server(9, segments=1, holdout=0.0, chance=50.0)
    scale, heated = live.settings.scale, COUNTS.index("heated")
    assert 50.0 * scale == 10.0
    codes: dict[bool, set[str]] = {True: set(), False: set()}
    for number in range(30):
        before = live.contents.counts[:, heated].copy()
        (line,) = shown(live, [request(f"u{number}", [f"c{n}" for n in range(40)], size=10)], NOW + number)
        for place in line.places:
            if place.kind == slate.HEATED:
                codes[bool(before[live.contents.rows.at[place.id]] < 10)] |= set(place.reasons)
    assert codes == {True: {"heated:chance"}, False: {"heated:grant"}}


def test_grants_reach_only_users_whom_they_suit():
    """The gate lets anyone in while a content is unknown, but nobody whose taste is the opposite."""
    live = server(9, segments=1, holdout=0.0, left=10**6)
    taste = live.users.record["profile"][live.users.rows.at["u1"]].astype(np.float32)
    heated = []
    for sign in (1.0, -1.0):
        live.contents.embedding[1:] = sign * taste
        got = decided(live, [asked(live, request("u1", [f"stranger{n}" for n in range(30)]), "d")], 10)
        heated.append(int((got.picked.kind == slate.HEATED).sum()))
    assert heated == [2, 0]


def test_the_cap_is_of_the_hour_on_the_clock():
    """What an earlier hour left unheated is not made up for."""
    live = server(8, left=10**9, holdout=0.0)
    ids = [f"stranger{n}" for n in range(30)]
    live.contents.left[:] = 0
    for n in range(60):
        shown(live, [request(f"u{n}", ids, size=5)], NOW)
    live.contents.left[:] = 10**9
    hour = NOW - NOW % HOUR_MS + HOUR_MS
    kinds = [shown(live, [request(f"u{n}", ids, size=1)], hour)[0].places[0].kind for n in range(6)]
    assert kinds[:4] == [slate.ORGANIC] * 4
    assert slate.HEATED in kinds


# ---- why


def test_contributions_add_up_to_the_logit_exactly(logged):
    named: dict[int, set[str]] = {kind: set() for kind in KIND_OF_ROOM}
    for line in logged:
        for place in regulated(line):
            assert sum(place.contributions.values()) == place.logit
            named[place.kind] |= place.contributions.keys()
    assert named[slate.ORGANIC] <= {"rank", "rounding"}
    assert {"fit", "promise"} <= named[slate.HEATED]
    assert {"promise", "novelty", "reach"} <= named[slate.EXPLORED]


def test_logits_are_those_that_were_compared(logged):
    for line in logged:
        asked = line.question
        scores, preference = wire.scores_of(asked), wire.floats(asked.preference)
        grants = dict(zip(asked.grants, wire.floats(asked.grant_scores), strict=True))
        for place in regulated(line):
            if place.kind == slate.ORGANIC:
                assert place.logit == scores[asked.candidates.index(place.id)] / 1024.0
            elif place.kind == slate.HEATED:
                assert place.logit == grants[place.id] / 1024.0
            else:
                assert place.logit == pytest.approx(preference[asked.candidates.index(place.id)], abs=1 / 1024)


def test_every_place_has_a_chance_and_a_reason(logged):
    drawn = 0
    for line in logged:
        for place in regulated(line):
            assert 0.0 < place.propensity <= 1.0
            assert place.stochastic or place.propensity == 1.0
            assert place.reasons
            assert set(place.reasons) <= REASONS.keys()
            drawn += place.stochastic and place.propensity < 1.0
    assert drawn > 50


def test_where_nothing_was_drawn_the_chance_is_that_of_not_exploring(logged):
    for line in logged:
        for place in regulated(line):
            if place.stochastic and place.kind == slate.ORGANIC:
                assert place.propensity == np.float32(1.0) - np.float32(line.question.probability)


def test_a_decision_hangs_on_its_id_and_not_on_its_batch():
    """What was drawn for a request is the same whoever asks beside it."""
    live = server(11, holdout=0.0)
    names = [f"c{n}" for n in range(80)]
    wanted = [request(f"u{u}", names[u : u + 40 + u], size=10) for u in range(12)]
    live.contents.left[:] = 10**6
    together = decided(live, [asked(live, one, f"d{i}") for i, one in enumerate(wanted)], 10)
    for i, one in enumerate(wanted):
        alone = decided(live, [asked(live, one, f"d{i}")], 10)
        np.testing.assert_array_equal(alone.picked.ids[0], together.picked.ids[i])
        np.testing.assert_array_equal(alone.picked.kind[0], together.picked.kind[i])
        np.testing.assert_allclose(alone.picked.propensity[0], together.picked.propensity[i], rtol=1e-6)


def test_another_decision_draws_anew():
    live = server(11, holdout=0.0)
    live.users.record["created_ms"][:] = 0
    one = request("u1", [f"c{n}" for n in range(80)], size=20)
    slates = {tuple(decided(live, [asked(live, one, f"d{i}")], 20).picked.ids[0, 0].tolist()) for i in range(20)}
    assert len(slates) > 5


# ---- the ladder


def test_the_switch_and_a_reason_lead_to_the_rankers_order():
    live = server(12)
    ids = [f"c{n}" for n in range(30)]
    live.mode = "ranker"
    (line,) = shown(live, [request("u1", ids, size=5, exclude=("c1",))])
    assert [p.id for p in line.places] == ["c0", "c2", "c3", "c4", "c5"]
    assert (line.arm, line.policy_version, line.why) == ("raw", "ranker", None)
    live.mode = "rules"
    (line,) = shown(live, [request("u2", ids, size=5)], why="deadline")
    assert [p.id for p in line.places] == ids[:5]
    assert (line.arm, line.why) == ("raw", "deadline")
    assert wire.answer_of(line).degraded
    live.mode = "policy"
    (line,) = shown(live, [request("u4", ids, size=5)])
    assert (line.arm, line.why) == ("rules", "no_policy")


def test_a_regulator_that_fails_leaves_the_rankers_order():
    live = server(12)
    live.users.record["mind"] = np.nan  # no probability to explore can be made of this
    live.platform_ctr = -1.0
    ids = [f"c{n}" for n in range(30)]
    with np.errstate(invalid="raise"):
        (line,) = shown(live, [request("u1", ids, size=5)])
    assert [p.id for p in line.places] == ids[:5]
    assert line.why == "regulator_failed"
    assert live.failures["regulator"] == 1


def test_a_failure_halfway_leaves_one_line_a_request(monkeypatch):
    live = server(12)
    remember, failed = live._remember, []

    def fails_once(line, body):
        if len(live.outbox) == 2 and not failed:
            failed.append(line)
            raise RuntimeError("halfway")
        remember(line, body)

    monkeypatch.setattr(live, "_remember", fails_once)
    lines = shown(live, [request(f"u{u}", ["c1", "c2", "c3"], size=2) for u in range(3)])
    assert failed
    assert [line.why for line in lines] == ["regulator_failed"] * 3
    assert [wire.logged_decoder.decode(body) for _, _, body in live.outbox] == lines


def test_the_shadow_decides_and_shows_the_rankers_order():
    live = server(13, holdout=0.0)
    ids = [f"c{n}" for n in range(60)]
    lines = shown(live, [request(f"u{u}", ids, size=10, shadow=u == 2) for u in range(6)])
    for line in lines:
        if line.user_id == "u2":
            assert [p.id for p in line.places] == ids[:10]
            assert chosen(line.instead) == chosen(wire.again(line))
        else:
            assert not line.instead
    assert live.window_heated == sum(p.kind == slate.HEATED for line in lines for p in line.places) > 0
    assert live.window_shown == 60


# ---- users and contents that change between the question and the answer


def test_a_user_forgotten_while_the_request_waits_is_a_new_user():
    live = server(14)
    ids = [live.next_id(NOW) for _ in range(2)]
    batch = [asked(live, request(f"u{u}", ["c1", "c2", "c3"], size=2), ids[u]) for u in range(2)]
    live.erase("u1", NOW)
    lines = live.recommend(batch, ids, NOW)
    assert [line.user_id for line in lines] == ["u0", "u1"]
    assert not live.failures
    assert live.users.record["requests"][live.users.rows.at["u1"]] == 1
    assert live.users.record["created_ms"][live.users.rows.at["u1"]] == NOW
    assert "" not in state_of(live)["users"]
    batch = live.unsaved()
    batch.check()  # a record without an id could be kept by no store
    assert {"u0", "u1"} <= batch.puts["user"].keys()


def test_a_row_given_to_another_user_while_the_request_waits_stays_theirs():
    live = server(14)
    id = live.next_id(NOW)
    batch = [asked(live, request("u1", ["c1", "c2", "c3"], size=2), id)]
    live.erase("u1", NOW)
    row = known_user(live, "other")
    assert batch[0].user == row
    before = live.users.record[row].tobytes()
    live.recommend(batch, [id], NOW)
    assert live.users.record[row].tobytes() == before


def test_a_content_forgotten_while_the_request_waits_is_a_stranger():
    live = server(14)
    live.users.held_out[:] = True
    id = live.next_id(NOW)
    batch = [asked(live, request("u1", ["c1", "c2", "c3"], size=3), id)]
    live.contents.forget("c2")
    live.add_content(content(777), {})
    (line,) = live.recommend(batch, [id], NOW)
    assert [p.id for p in line.places] == ["c1", "c2", "c3"]
    assert live.contents.counts[live.contents.rows.at["c777"]].tolist() == [0] * len(COUNTS)


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
