"""``upwell trust``: who is doubted, and an operator's word, of a real service."""

from __future__ import annotations

import msgspec
import pytest
from http_server import OPERATOR
from typer.testing import CliRunner

from upwell.cli import app
from upwell.errors import BadRequest


def run(*given: str):
    return CliRunner().invoke(app, ["trust", *given], env={"COLUMNS": "200"})


def test_words_over_http(serve):
    one = serve(UPWELL_OPERATOR_TOKEN=OPERATOR)
    one.http.headers["authorization"] = f"Bearer {OPERATOR}"
    assert one.content("片/1").is_success
    here = ("--url", one.url, "--token", OPERATOR)
    assert "nobody judges" in run(*here).stdout
    told = msgspec.json.decode(run("片/1", *here, "--json").stdout)
    assert (told["probability"], told["consequence"], told["appeal"]) == (None, "none", None)
    said = run("片/1", "cheat", "--why", "a friend told me", "--by", "李", *here)
    assert "zeroed" in said.stdout
    assert msgspec.json.decode(run(*here, "--json").stdout)["appeals"]["片/1"]["word"] == "cheat"
    assert msgspec.json.decode(run("片/1", "none", *here, "--json").stdout)["appeal"] is None
    entries = one.http.get("/v1/audit").json()["entries"]
    assert [(entry["what"], entry["of"], entry["name"], entry["why"]) for entry in entries] == [
        ("trust: cheat", "片/1", "李", "a friend told me"), ("trust", "片/1", "", "it was cheat"),
    ]  # fmt: skip
    with pytest.raises(BadRequest, match="no content"):
        raise run("nothing", *here).exception
    with pytest.raises(BadRequest, match="give honest, cheat or none"):
        raise run("片/1", "perhaps", *here).exception
