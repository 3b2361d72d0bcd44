"""Noise on users' dials: of a known density, held for six hours, logged, and of nobody whom no dial acts on."""

import msgspec
import numpy as np
import pytest
from service_samples import NOW, content, known_user, request, server, shown

from upwell.agents.dials import TURNS
from upwell.agents.network import forward
from upwell.agents.observe import SEES
from upwell.service import learned, wire
from upwell.service.records import key_of

HOUR_MS = 3_600_000
DIALS = len(TURNS["user"])


def keys(many: int) -> np.ndarray:
    return np.array([key_of(f"u{n}") for n in range(many)], np.uint32)


def logged(dial_noise: float, hours: int = 0) -> list[wire.Logged]:
    """Slates of some users old and new by the shipped policy, through JSON and back."""
    live = server(4, policy="marl", dial_noise=dial_noise, holdout=0.2)
    live.look(live.settings.scale, NOW)
    names = [f"c{n}" for n in range(60)]
    for number in range(20):
        known_user(live, f"known{number}")
    people = [f"known{n}" for n in range(20)] + [f"stranger{n}" for n in range(5)]
    lines = shown(live, [request(name, names) for name in people], NOW + hours * HOUR_MS)
    assert not live.failures
    return [wire.logged_decoder.decode(wire.encoder.encode(line)) for line in lines]


def test_noise_is_standard_normal_and_each_users_own():
    drawn = learned.noise(7, keys(5_000), NOW)
    assert drawn.shape == (5_000, DIALS)
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1.0) < 0.02
    apart = np.corrcoef(drawn.T) - np.eye(DIALS)
    assert np.abs(apart).max() < 0.06
    assert (learned.noise(8, keys(10), NOW) != drawn[:10]).all()


def test_noise_is_held_for_six_hours():
    begin = NOW - NOW % learned.WINDOW_MS
    one = learned.noise(7, keys(3), begin)
    np.testing.assert_array_equal(one, learned.noise(7, keys(3), begin + learned.WINDOW_MS - 1))
    assert (one != learned.noise(7, keys(3), begin + learned.WINDOW_MS)).all()


def test_the_log_tells_what_was_seen_and_done_and_what_of_it_was_noise():
    policy = learned.load("marl").policy
    turned = [line.turned for line in logged(0.1) if line.turned is not None]
    assert len(turned) > 10
    for one in turned:
        seen, action, noise = (np.frombuffer(of, np.float32) for of in (one.seen, one.action, one.noise))
        assert (len(seen), len(action), len(noise)) == (len(SEES["user"]), DIALS, DIALS)
        np.testing.assert_allclose(action, forward(np, policy.user, seen) + noise, atol=1e-5)
        assert one.deviation == 0.1
        assert 0.0 < np.abs(noise).max() < 0.6


def test_who_is_new_or_held_out_is_not_learned_from():
    lines = logged(0.1)
    kept = {
        line.user_id
        for line in lines
        if {"kept_from_new_user", "holdout"} & {r for p in line.places for r in p.reasons}
    }
    assert kept
    assert all((line.turned is None) == (line.user_id in kept) for line in lines)


def test_without_noise_nothing_is_told_and_nothing_differs():
    still, noisy = logged(0.0), logged(1e-9)
    assert all(line.turned is None for line in still)
    assert any(line.turned is not None for line in noisy)
    for a, b in zip(still, noisy, strict=True):
        assert [p.id for p in a.places] == [p.id for p in b.places]
    assert [[p.id for p in line.places] for line in logged(0.5)] != [[p.id for p in line.places] for line in still]


def test_a_slate_with_noise_is_built_again_from_its_line():
    for line in logged(0.3):
        again = [(p.id, p.kind, p.propensity) for p in wire.again(line)]
        assert again == [(p.id, p.kind, p.propensity) for p in line.places]
        assert msgspec.json.decode(msgspec.json.encode(line), type=wire.Logged) == line


def test_credit_by_hand():
    """Half a need each: a young content's over its 500·scale impressions, an older one's organic over 100·scale."""
    live = server(4, contents=20)
    rows = np.array([[live.add_content(content(n, NOW - age), {}) for n, age in ((101, 0), (102, 80 * HOUR_MS))]])
    record = np.zeros((64, len(learned.RECORD)), np.float32)
    record[rows[0], 3] = 1.0, 0.5
    plain, heated = np.array([[False, False]]), np.array([[True, True]])

    def credit(which: np.ndarray) -> float:
        return float(learned.credit(live.contents, record, rows, which, NOW, 0.2)[0])

    assert credit(plain) == pytest.approx(0.5 * 1.0 / 100.0 + 0.5 * 0.5 / 20.0)
    assert credit(heated) == pytest.approx(0.5 * 1.0 / 100.0)
    assert float(learned.credit(live.contents, record, np.array([[-1, 999]]), plain, NOW, 0.2)[0]) == 0.0
