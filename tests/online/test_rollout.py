"""A version on trial: one as good is widened, a worse one is rolled back, however often one looks."""

import numpy as np
import pytest

from upwell.online.rollout import Tally, Terms, between, first_share, judge

TERMS = Terms()


def lived(rng, count, gain, click_rate):
    """Days of users: gains with a deviation of one half, forty impressions each."""
    return rng.normal(gain, 0.5, count), rng.binomial(40, click_rate, count)


def told(tally, gains, clicks):
    for gain, n in zip(gains, clicks, strict=True):
        tally.add(f"u{len(tally.counts)}", float(gain), int(n), 40)


def trial(seed, ours, theirs, click_rate=0.07, held_rate=0.07, looks=200):
    """Looks after each fifty user days on trial, five times as many under the live version; the first that decides."""
    rng, tallies = np.random.default_rng(seed), [Tally(), Tally(), Tally()]
    for _ in range(looks):
        sides = ((50, ours, click_rate), (250, theirs, held_rate), (50, theirs, held_rate))
        for tally, of in zip(tallies, sides, strict=True):
            told(tally, *lived(rng, *of))
        judged = judge(*tallies, TERMS)
        if judged.verdict != "wait":
            return judged
    return judged


def test_a_first_share_is_of_users_enough():
    assert [first_share(users) for users in (0, 400, 1_000, 2_000, 4_000, 10**7)] == [0.25, 0.25, 0.2, 0.1, 0.05, 0.05]


def test_a_tally_by_hand():
    tally = Tally()
    told(tally, [1.0, 3.0], [2, 4])
    assert (tally.count, tally.mean, tally.variance) == (2, 2.0, 2.0)
    assert tally.click_rate == 6 / 80


def test_hours_of_one_user_hang_together():
    """Two users of a hundred equal hours each tell as much as two hours would: the mean's error is that of two."""
    tally = Tally()
    for n in range(200):
        tally.add(f"u{n % 2}", 1.0 + 2.0 * (n % 2), 0, 40)
    assert tally.mean == 2.0
    assert tally.variance / tally.count == pytest.approx(1.0)  # of 1 and 3: 2 over two users
    assert Tally({"u": 5}, {"u": 5.0}, 0, 0).variance == np.inf


def test_nothing_is_said_of_nobody():
    assert judge(Tally(), Tally(), Tally(), TERMS).verdict == "wait"
    assert between(Tally(), Tally(), TERMS).high == np.inf


@pytest.mark.parametrize(("ours", "verdict"), [(1.0, "widen"), (1.1, "widen"), (0.85, "roll_back")])
def test_what_becomes_of_a_version(ours, verdict):
    verdicts = [trial(seed, ours, 1.0).verdict for seed in range(40)]
    assert verdicts.count(verdict) >= 36  # two intervals of 95%


def test_a_version_far_worse_never_gets_beyond_its_first_share():
    for seed in range(60):
        judged = trial(seed, 0.5, 1.0)
        assert judged.verdict == "roll_back"
        assert "worse" in judged.why


def test_a_version_that_costs_clicks_is_rolled_back_whatever_it_gains():
    verdicts = [trial(seed, 1.001, 1.0, click_rate=0.05).verdict for seed in range(20)]
    assert verdicts.count("roll_back") >= 19


def test_one_that_cannot_be_told_apart_from_a_worse_one_is_given_up():
    rng, tallies = np.random.default_rng(1), [Tally(), Tally(), Tally()]
    for tally in tallies:
        told(tally, rng.normal(1.0, 30.0, TERMS.most), rng.binomial(40, 0.07, TERMS.most))
    judged = judge(*tallies, TERMS)
    assert judged.verdict == "roll_back"
    assert "not shown" in judged.why
