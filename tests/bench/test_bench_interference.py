"""The study of designs under interference, small: who competes for the pool is told wrong by a split of users."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from upwell.cli import app
from upwell.errors import BadRequest


@pytest.mark.slow
def test_a_split_of_users_is_off_where_arms_compete_for_the_pool_and_a_split_of_money_is_not():
    words = ["--arms", "raw,rules", "--seeds", "2", "--users", "240", "--contents", "400", "--burn-in", "2",
             "--days", "8", "--set", "sizes.segments=2", "--set", "sizes.visits=0",
             "--designs", "user_split,budget_split", "--json"]  # fmt: skip
    ran = CliRunner().invoke(app, ["bench", "interference", *words])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert told["true"]["heated_share"]["low"] > 0.01
    bias = {design: found["heated_share"]["bias"]["mean"] for design, found in told["designs"].items()}
    assert bias["user_split"] > 0.5
    assert abs(bias["budget_split"]) < 0.1
    assert "cold_start_success" not in told["designs"]["user_split"]


def test_a_design_that_there_is_not_is_refused():
    ran = CliRunner().invoke(app, ["bench", "interference", "--designs", "user_split,coin_toss"])
    assert isinstance(ran.exception, BadRequest)
    assert "co_diverted" in str(ran.exception)
