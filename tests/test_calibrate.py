"""What a log says of a world, and a search that goes on where it was cut off."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from upwell.errors import BadRequest
from upwell.logs import calibrate, targets
from upwell.world import population
from upwell.world.config import reference_world

DATA = Path(os.environ.get("UPWELL_DATA", Path(__file__).parents[2] / "shared" / "data"))
FACTS = DATA / "kuairand27k" / "facts.json"


def test_a_rhythm_of_two_waves_is_found_again():
    hour = np.arange(24) + 0.5
    log_share = 0.5 * np.cos(2 * np.pi * (hour - 20.0) / 24) + 0.3 * np.cos(4 * np.pi * (hour - 8.0) / 24)
    shares = np.exp(log_share) / np.exp(log_share).sum()
    found = targets.rhythm(shares)
    assert found == pytest.approx(
        {
            "activity.daily_wave": 0.5,
            "activity.daily_peak_h": 20.0,
            "activity.half_wave": 0.3,
            "activity.half_peak_h": 8.0,
        }
    )
    np.testing.assert_allclose(population.hourly_shares(reference_world().override(found)), shares, rtol=1e-4)


def test_the_clock_passes_an_hour_when_its_share_of_the_traffic_is_gone():
    config = reference_world()
    gone = np.cumsum(np.asarray(population.hourly_shares(config)))
    assert float(population.clock_h(config, 0.0)) == 0.0
    assert float(population.clock_h(config, gone[11])) == pytest.approx(12.0, abs=1e-3)
    assert float(population.clock_h(config, 1.0)) < 24.0


def test_a_one_sided_target_is_met_from_below_and_missed_from_above():
    most = targets.Target(0.003, upper=True)
    assert most.error(0.001) == 0.0
    assert most.error(0.006) == pytest.approx(1.0)
    assert targets.Target(0.5).error(0.4) == pytest.approx(-0.2)


def test_what_the_log_does_not_tell_is_not_fitted():
    assert targets.direct({"tags_per_content_0": 0.1, "tags_per_content_1": 0.6, "tags_per_content_2": 0.3}) == (
        pytest.approx({"content.one_tag": 0.6 / 0.9, "content.two_tags": 0.3 / 0.9})
    )
    with pytest.raises(BadRequest, match="import its interaction log too"):
        targets.searched({"duration_s_p50": 40.0})


@pytest.mark.skipif(not FACTS.exists(), reason=f"{FACTS} is not there")
def test_the_published_aggregates_give_their_own_figures():
    told = targets.read_marginals(FACTS)
    wanted = targets.searched(told)
    assert {name: round(t.value, 3) for name, t in wanted.items()} == {
        "ctr": 0.379,
        "random_ctr": 0.176,
        "top100_share": 0.441,
    }
    keys = targets.direct(told)
    assert keys["activity.daily_peak_h"] == pytest.approx(16.8, abs=0.1)
    assert keys["content.one_tag"] == pytest.approx(0.753, abs=0.001)
    assert keys["activity.visits_spread"] == pytest.approx(0.82, abs=0.01)


def test_points_of_the_unit_cube_stay_within_the_bounds_and_come_back():
    config = reference_world()
    x = np.full(len(calibrate.FREE), 0.25)
    assert calibrate.encode(calibrate.decode(config, x, calibrate.FREE), calibrate.FREE) == pytest.approx(x, abs=1e-6)
    flat = calibrate.flatten(calibrate.decode(config, x * 0 - 3.0, calibrate.FREE))
    for name, (low, high) in calibrate.FREE.items():
        assert low - 1e-9 <= flat[name] <= high + 1e-9, name


@pytest.mark.slow
def test_a_search_that_was_cut_off_goes_on_where_it_stopped(tmp_path):
    start = reference_world().override(
        {"sizes.users": 64, "sizes.contents": 300, "sizes.creators": 30, "sizes.segments": 2, "sizes.ticks_per_day": 24}
    )
    journal = tmp_path / "journal.jsonl"

    def search(generations: int) -> dict[str, float]:
        wanted = {"ctr": targets.Target(0.1)}
        return calibrate.fit(start, wanted, generations=generations, population=4, days=12, journal=journal)[1]

    search(1)
    first = journal.read_text(encoding="utf-8").splitlines()
    assert len(first) == 4
    journal.write_text("\n".join(first[:2]) + "\n", encoding="utf-8")  # as if cut off in the middle
    once = search(1)
    lines = journal.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == first[:2]
    assert [json.loads(line)["metrics"] for line in lines] == [json.loads(line)["metrics"] for line in first]
    assert once["ctr"] > 0.0
