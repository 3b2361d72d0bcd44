"""The live platform against the simulated one: the same morning, the same random numbers, the service in between."""

import time

import jax
import numpy as np
import pytest

from upwell.arms.registry import members
from upwell.demo import bootstrap, run
from upwell.experiment import metrics, runner
from upwell.service import records
from upwell.state import open_store, pages
from upwell.world import world
from upwell.world.config import reference_world

DAYS = 2
TOLERANCE = {
    "ctr": 0.01,
    "satisfaction_mean": 0.02,
    "d1_retention": 0.03,
    "heated_share": 0.08,
    "top100_share": 0.08,
    "interest_diversity": 0.05,
    "watch_minutes_per_dau": 2.0,
}
"""How far live days may be from simulated ones: draws differ, and so do the seconds at which grants are matched."""


@pytest.fixture(scope="module")
def platform():
    config = reference_world().override({"sizes.users": 240, "sizes.contents": 600, "sizes.candidates": 100})
    return config, world.burnt_in(config, 3, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("arm", "policy"), [("rules", ""), ("marl", "marl")])
def test_live_days_are_what_the_simulation_says(platform, arm, policy):
    config, state = platform
    inside = metrics.over(config, runner.run_arm(config, members(arm), state, DAYS, lambda: None))
    raw = metrics.over(config, runner.run_arm(config, members("raw"), state, DAYS, lambda: None))
    ticks = []
    lived = run.live(
        config, state, DAYS, lambda figures: ticks.append(figures.decisions), time.perf_counter() + 600, policy=policy
    )
    after, figures = metrics.over(config, lived.reports), lived.figures
    requests = sum(float(report["requests"]) for report in lived.reports)
    assert figures.decisions == requests == ticks[-1]
    assert figures.shown == requests * config.sizes.slate
    assert figures.events == figures.clicks == round(sum(float(report["clicks"]) for report in lived.reports))
    for name, tolerance in TOLERANCE.items():
        assert after[name] == pytest.approx(inside[name], abs=tolerance), name
    assert after["heated_share_max_hour"] <= config.heating.cap + 1e-6
    assert after["heated_share"] > 0.01
    assert raw["heated_share"] == 0.0
    assert after["new_content_heated_share"] > 0.2


@pytest.mark.slow
def test_slates_that_cannot_be_filled_are_told_of_as_far_as_they_go():
    """Regression: what a user clicked beyond a short slate was told of too, and the day ended there."""
    small = {"sizes.users": 64, "sizes.contents": 100, "sizes.creators": 20, "sizes.candidates": 16, "sizes.fresh": 8}
    config = reference_world().override(small | {"sizes.segments": 2, "response.base": 1.0})
    lived = run.live(config, world.burnt_in(config, 3, 2), 1, lambda _: None, time.perf_counter() + 600)
    (report,) = lived.reports
    assert 0 < lived.figures.shown < float(report["requests"]) * config.sizes.slate
    assert 0 < lived.figures.events == lived.figures.clicks < float(report["clicks"])


def test_a_platform_brings_its_past_along(platform, tmp_path):
    config, state = platform
    host = jax.tree.map(np.asarray, state)
    store = open_store(f"sqlite:{tmp_path / 'state.db'}")
    bootstrap.write(store, config, host)
    users = {name: records.read_user(body) for name, body in pages(store.scan, "user")}
    counts = dict(pages(store.scan_counters, "content"))
    store.close()
    assert len(users) == host.users.satisfaction.size
    segment, place = 1, 2
    number = segment * host.users.satisfaction.shape[1] + place
    record = users[f"u{number}d{int(host.users.created_day[segment, place])}"]
    assert record["profile"][: config.sizes.dims] == pytest.approx(host.users.profile[segment, place], abs=1e-3)
    assert record["mind"] == pytest.approx(host.users.mind[segment, place])
    assert sum(c.get("impressions", 0) for c in counts.values()) == int(np.rint(host.contents.stats[:, 0]).sum())
    assert sum(c.get("clicks", 0) for c in counts.values()) == int(np.rint(host.contents.stats[:, 1]).sum())
