"""``upwell goals`` and ``upwell audit`` against a running service, and the client that they ask with."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner

from upwell.cli import app
from upwell.client import AsyncClient, Client, UpwellRefused
from upwell.errors import BadRequest
from upwell.service.goals import weights_of


def said(served, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--url", served.url], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_goal_by_command(served):
    told = said(
        served, "goals", "put", "提升GMV, xyzzy", "--id", "618/大促", "--weights", "4,4,2", "--by", "安娜", "--json"
    )
    assert json.loads(told)["goals"][0]["state"] == "proposed"
    assert json.loads(told)["unread"] == ["xyzzy"]
    assert "1:618/大促" in said(served, "goals", "approve", "618/大促", "--why", "促销")
    assert served.recommend("u1").json()["weights_version"] == "1:618/大促"
    assert "618/大促" in said(served, "goals", "list")
    assert "version 2" in " ".join(said(served, "goals", "lift", "618/大促").split())
    with pytest.raises(BadRequest, match="'618/大促' is lifted"):
        said(served, "goals", "refuse", "618/大促")
    with pytest.raises(BadRequest, match="three numbers"):
        said(served, "goals", "put", "x", "--weights", "4,4")
    entries = json.loads(said(served, "audit", "--json"))["entries"]
    assert [(e["what"], e["name"]) for e in entries if e["of"] == "618/大促"] == [
        ("goal_asked", "安娜"), ("goal_proposed", "安娜"), ("goal_approved", ""), ("goal_live", ""),
        ("goal_lifted", ""),
    ]  # fmt: skip
    assert "促销" in said(served, "audit")


def test_both_clients(served):
    weights = weights_of((0.35, 0.35, 0.3))
    with Client(served.url, by="Bob") as one:
        id = one.put_goal("raise ctr")["id"]
        assert one.put_weights(id, weights)["goals"][0]["proposal"]["source"] == "operator"
        assert one.approve(id, "why not")["in_force"]["goal_id"] == id
        one.lift(id)
        with pytest.raises(UpwellRefused, match="is lifted"):
            one.refuse(id)
        assert one.goals()["in_force"]["goal_id"] == ""
        assert [e["name"] for e in one.audit(limit=1)["entries"]] == ["Bob"]

    async def again():
        async with AsyncClient(served.url) as one:
            id = (await one.put_goal("raise ctr", id="again"))["id"]
            await one.put_weights(id, weights)
            await one.approve(id)
            await one.lift(id, "enough")
            await one.put_goal("raise ctr", id="again")
            await one.refuse(id)
            assert (await one.goals())["goals"][0]["state"] == "refused"
            return (await one.audit(limit=3))["entries"]

    assert [e["what"] for e in asyncio.run(again())] == ["goal_lifted", "goal_asked", "goal_refused"]
