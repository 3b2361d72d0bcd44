"""Why a slate is what it is: contributions, chances, reasons, draws."""

import numpy as np
import pytest
from service_samples import (
    asked,
    decided,
    request,
    server,
)  # fmt: skip
from slate_samples import regulated

from upwell.regulator import slate
from upwell.regulator.words import REASONS
from upwell.service import wire

KIND_OF_ROOM = (slate.ORGANIC, slate.EXPLORED, slate.HEATED)


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
