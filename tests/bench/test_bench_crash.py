"""The crash run itself, small."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from upwell.cli import app


@pytest.mark.slow
def test_two_kills(tmp_path):
    ran = CliRunner().invoke(app, ["bench", "crash", "--kills", "2", "--keep", str(tmp_path / "run"), "--json"])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert told["kills"] == 2
    assert told["acknowledged"] > 0
    assert (told["lost"], told["doubled"], told["ledger_error"], told["continuity"]) == (0, 0, 0, 1.0)
    assert told["heated_by_arms"] > 0
    assert told["decisions_replayed"] == told["decisions_stored"] > 0
