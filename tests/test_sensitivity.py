"""The sensitivity study: what is changed to what, the arithmetic by hand, the page, and a tiny study end to end."""

import json
import math
import re
import sys

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from upwell.cli import main
from upwell.errors import BadRequest
from upwell.experiment import sensitivity, tornado
from upwell.logs.calibrate import FREE, SOLVED
from upwell.world.config import flatten, reference_world

CHOICES = {
    "ranker.feedback", "ranker.learns_from_day",  # what the disease is, and when it begins
    "activity.daily_wave", "activity.daily_peak_h", "activity.half_wave", "activity.half_peak_h", "activity.weekend",
    "content.one_tag", "content.two_tags",  # these and the waves are KuaiRand's
}  # fmt: skip


def test_every_key_is_assumed_fitted_given_or_a_choice():
    # Nobody comes directly to the reference platform.
    keys = {k for k in flatten(reference_world()) if not k.startswith(("sizes.", "heating.", "goal.", "direct."))}
    fitted = {*FREE, *SOLVED.values()}
    assumed = set(sensitivity.assumed())
    assert not assumed & (fitted | CHOICES)
    assert assumed | fitted | CHOICES == keys


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("response.enjoy", 0.7 * 0.75, 0.7 * 1.25),
        ("interest.persona", 0.45, 0.75),
        ("response.memory", 0.9375, 0.9625),  # 1.19 would be no share: what lacks to 1 is changed
        ("ranker.lag_days", 2, 4),  # whole days
        ("ranker.no_repeat_h", 9, 15),
    ],
)
def test_what_a_parameter_is_changed_to(key, low, high):
    found = sensitivity.setting(reference_world(), key, 0.25)
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize("key", ["sizes.users", "ranker.nothing", "enjoy"])
def test_a_wrong_key_is_refused(key):
    with pytest.raises(BadRequest, match="no world parameter"):
        sensitivity.setting(reference_world(), key, 0.25)


def test_a_parameter_that_is_nothing_cannot_be_changed():
    with pytest.raises(BadRequest, match="changes nothing"):
        sensitivity.setting(reference_world().override({"creator.ring": 0}), "creator.ring", 0.25)


def test_elasticity_and_noise_by_hand():
    setting = sensitivity.Setting("a.b", 4.0, 3.0, 5.0)
    mean = {"base": {"objective": 0.5}, "a.b-low": {"objective": 0.45}, "a.b-high": {"objective": 0.6}}
    assert sensitivity.effect(setting, mean, "objective")["elasticity"] == pytest.approx((0.15 / 0.5) / 0.5)
    one = np.ones(2)
    values = [(np.array(v), one) for v in ([1.0, 1.0], [2.0, 2.2], [1.4, 1.0])]
    # Changes 1, 1.2 and .4, 0: squares about their means .02 and .08, one degree of freedom each
    assert sensitivity.noise(values) == pytest.approx(1.96 * math.sqrt(0.05 / 2))
    assert math.isnan(sensitivity.noise([(np.ones(1), np.ones(1))] * 3))


def made_up() -> dict:
    parameters = [
        {
            "key": key, "value": 4.0, "low": 3.0, "high": 5.0,
            "figures": {f: {"low": 0.4, "high": 0.4 + apart, "elasticity": apart} for f in sensitivity.FIGURES},
        }
        for key, apart in (("a.small", 0.01), ("<script>alert(1)</script>", 0.2))
    ]  # fmt: skip
    same = dict.fromkeys(sensitivity.FIGURES, 0.4)
    return {
        "base": same, "noise": dict.fromkeys(same, math.nan), "parameters": parameters, "seeds": [0], "users": 10,
        "contents": 20, "days": 8, "burn_in": 0,
    }  # fmt: skip


def test_the_page_is_self_contained_and_what_moves_most_stands_on_top(tmp_path):
    result = made_up()
    tornado.write_page("<b>世界</b>", result, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert "<script>alert" not in page
    assert "<b>世界" not in page
    assert not re.search(r"(src|href)\s*=|@import|url\(", page)
    assert tornado.tornado(result).data[0].y[-1].startswith("&lt;script")  # Plotly draws the last one on top
    table = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert table[2].startswith("| as it is |  | 0.400 | 40.0% |")
    assert table[4].startswith("| a.small | 3 … 5 | 0.400 … 0.410 | 40.0% … 41.0% |")


@pytest.mark.slow
def test_a_tiny_study_end_to_end_resumes(tmp_path, capfd, monkeypatch):
    words = [
        "upwell", "sensitivity", "--keys", "response.enjoy", "--seeds", "1", "--users", "200", "--contents", "300",
        "--days", "8", "--burn-in", "2", "--set", "sizes.segments=2", "--out", str(tmp_path), "--json",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    main()
    first = json.loads(capfd.readouterr().out)
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("runs/*.json")}
    assert len(runs) == 3 * len(sensitivity.ARMS)
    (told,) = first["parameters"]
    assert (told["key"], told["low"], told["high"]) == ("response.enjoy", pytest.approx(0.35), pytest.approx(1.05))
    assert told["figures"]["objective"]["high"] > told["figures"]["objective"]["low"], "who enjoys more is happier"
    assert (tmp_path / "sensitivity.html").exists()
    main()
    second = json.loads(capfd.readouterr().out)
    assert second == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("runs/*.json")} == runs
