"""The bench of A/A tests."""

import msgspec
import numpy as np
from typer.testing import CliRunner

from upwell.bench import aa
from upwell.cli import app


def test_it_runs():
    done = CliRunner().invoke(app, ["bench", "aa", "--tests", "20", "--json"])
    found = msgspec.json.decode(done.stdout)
    assert found["tests"] == 20
    for name in ("false_positive_rate", "false_positive_rate_peeking", "srm_alarms_balanced"):
        assert 0.0 <= found[name]["low"] <= found[name]["mean"] <= 0.3
    assert found["coverage"]["mean"] >= 0.7
    assert found["srm_alarms_imbalanced"]["mean"] >= 0.7
    assert found["coverage_per_user"]["mean"] >= 0.7
    assert 0.2 < found["cuped_variance_reduction"]["mean"] < 0.7
    assert 0.2 < found["cuped_variance_reduction_per_user"]["mean"] < 0.99


def test_other_users_may_be_had():
    def few(rng: np.random.Generator) -> aa.Users:
        shown = np.full((3, 100), 10)
        return aa.Users(rng.binomial(shown, 0.2), shown, np.full((100, 2), np.nan))

    found = aa.run(5, 1, lambda: None, few)
    assert found["cuped_variance_reduction"]["mean"] == 0.0  # nobody was there before


def test_what_is_followed_is_what_there_was_by_each_look():
    clicks, shown = np.array([[1, 0], [0, 0], [2, 1]]), np.array([[2, 0], [0, 0], [3, 4]])
    found = aa.followed(np.array([0, 1]), aa.Users(clicks, shown, np.empty((2, 2))))
    assert found.n.tolist() == [[1, 0], [1, 0], [1, 1]]
    assert found.sums.tolist() == [[[1, 2], [0, 0]], [[1, 2], [0, 0]], [[3, 5], [1, 4]]]
    assert found.products[2, 0].tolist() == [[9, 15], [15, 25]]
