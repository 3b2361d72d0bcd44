"""Goals over HTTP: from an operator's words to the next decision and back, and what the audit log says of it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from http_server import refused
from inside import CLIENT, FIRST, SECOND, inside
from service_samples import NOW, request
from several import Several

from upwell.goals.goal import Proposal
from upwell.service import wire
from upwell.service.audit import PROPOSER
from upwell.service.goals import weights_of

WORDS = "今天是618大促,GMV目标1亿,用户留存目标是65%"
NEAR = {"weights": {"user_satisfaction": 4, "platform_revenue": 4, "long_term": 2}}
FAR = {"weights": {"user_satisfaction": 1, "platform_revenue": 8, "long_term": 1}}


def run(folder, story, **given):
    async def live():
        async with inside(folder, **given) as one:
            await story(one)

    asyncio.run(live())


def test_from_words_to_decisions_and_back(tmp_path):
    async def story(one):
        assert (await one.decide())["weights_version"] == "0"
        asked = await one.done("PUT", "/goals", {"text": WORDS, "id": "618"}, by="%E5%AE%89%E5%A8%9C")
        assert [aim["metric"] for aim in asked["goals"][0]["goal"]["aims"]] == ["gmv_per_day", "d1_retention"]
        assert (asked["id"], asked["goals"][0]["state"], asked["in_force"]["version"]) == ("618", "asked", "0")
        proposed = await one.done("PUT", "/goals/618/proposal", NEAR)
        assert proposed["goals"][0]["moves"] == pytest.approx(0.1)
        assert (proposed["goals"][0]["large"], proposed["goals"][0]["stale"]) == (False, False)
        approved = await one.done("POST", "/goals/618/approve?why=sale", by="Bob")
        assert (approved["goals"][0]["state"], approved["in_force"]["version"]) == ("live", "1:618")
        decided = await one.decide()
        assert decided["weights_version"] == "1:618"
        told = await one.done("GET", f"/decisions/{decided['decision_id']}")
        assert told["weights"] == {"user_satisfaction": 0.4, "platform_revenue": 0.4, "long_term": 0.2}
        await one.done("DELETE", "/goals/618")
        back = await one.decide()
        assert back["weights_version"] == "2"
        told = await one.done("GET", f"/decisions/{back['decision_id']}")
        assert told["weights"] == {"user_satisfaction": 0.4, "platform_revenue": 0.3, "long_term": 0.3}
        entries = (await one.done("GET", "/audit"))["entries"]
        assert [(e["what"], e["who"], e["name"], e["of"]) for e in entries] == [
            ("goal_asked", "operator", "安娜", "618"), ("goal_proposed", "operator", "", "618"),
            ("goal_approved", "operator", "Bob", "618"), ("goal_live", "operator", "Bob", "618"),
            ("goal_lifted", "operator", "", "618"),
        ]  # fmt: skip
        assert (entries[0]["why"], entries[2]["why"]) == (WORDS, "sale")
        assert entries[3]["detail"]["version"] == "1:618"

    run(tmp_path, story)


def test_two_keys(tmp_path):
    async def story(one):
        await one.done("PUT", "/goals", {"text": "raise GMV", "id": "g"})
        await one.done("PUT", "/goals/g/proposal", FAR)
        waits = await one.done("POST", "/goals/g/approve")
        assert (waits["goals"][0]["state"], waits["goals"][0]["approvals"]) == ("waiting_for_key", ["operator"])
        assert waits["in_force"]["version"] == "0"
        refused(await one("POST", "/goals/g/approve"), 409, "needs_other_key")
        refused(await one("POST", "/goals/g/approve", key=CLIENT), 403, "forbidden")
        assert (await one.done("POST", "/goals/g/approve", key=SECOND))["in_force"]["version"] == "1:g"
        assert [who for what, who in await one.audit() if what == "goal_approved"] == ["operator-2"]
        text = (await one("GET", "/audit")).text + (await one("GET", "/goals")).text
        assert not any(key in text for key in (FIRST, SECOND, CLIENT))

    run(tmp_path, story)


def test_without_a_second_key_large_moves_are_refused(tmp_path):
    async def story(one):
        await one.done("PUT", "/goals", {"text": "raise GMV", "id": "g"})
        await one.done("PUT", "/goals/g/proposal", FAR)
        assert "set second_token" in refused(await one("POST", "/goals/g/approve"), 409, "needs_two_keys")["message"]
        assert (await one.decide())["weights_version"] == "0"

    run(tmp_path, story, keys=1)


def test_a_period_and_a_restart(tmp_path):
    """What is in force outlives its server; its end comes by the clock, and is written down."""
    wanted = {"text": "raise GMV", "id": "g", "until_ms": NOW + 60_000}

    async def first(one):
        await one.done("PUT", "/goals", wanted)
        await one.done("PUT", "/goals/g/proposal", NEAR)
        await one.done("POST", "/goals/g/approve")

    async def again(one):
        assert (await one.decide())["weights_version"] == "1:g"
        one.wait(60_000)
        await one.node.follow_changes()
        assert (await one.decide("u2"))["weights_version"] == "2"
        assert (await one.done("GET", "/goals"))["goals"][0]["state"] == "expired"
        assert (await one.audit())[-1] == ("goal_expired", "clock")
        assert await one.audit(since=NOW + 60_000) == [("goal_expired", "clock")]
        assert await one.audit(limit=2) == [("goal_live", "operator"), ("goal_expired", "clock")]

    run(tmp_path, first)
    run(tmp_path, again)


def test_what_the_proposer_proposes(tmp_path):
    """Written into the store by another process; within bounds no operator is asked."""

    async def story(one):
        await one.done("PUT", "/goals", {"text": "raise GMV", "id": "g"})
        proposal = Proposal(
            goal_id="g", weights=weights_of((0.35, 0.35, 0.3)), source="llm", created_at=NOW, meets=True,
            model="qwen2-72b-instruct", prompt_hash="7f", answer='{"weights": …} ' * 1_000,
        )  # fmt: skip
        one.node.course.change(lambda goals: goals.propose(proposal, PROPOSER, NOW, one.node.settings.goals_auto), NOW)
        await one.node.follow_changes()
        assert (await one.decide())["weights_version"] == "1:g"
        entries = (await one.done("GET", "/audit"))["entries"]
        assert [(e["what"], e["who"]) for e in entries][1:] == [
            ("goal_proposed", "proposer"), ("goal_approved", "automatic"), ("goal_live", "automatic"),
        ]  # fmt: skip
        about = entries[1]["detail"]
        assert (about["model"], about["prompt_hash"], about["meets"]) == ("qwen2-72b-instruct", "7f", True)
        assert about["answer"].startswith('{"weights"')
        assert len(about["answer"]) == 8_000

    run(tmp_path, story, goals_auto=0.06)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("PUT", "/goals", {}, 422, ""),
        ("PUT", "/goals", {"text": ""}, 422, "text"),
        ("PUT", "/goals", {"text": "x", "more": 1}, 422, ""),
        ("PUT", "/goals", {"text": "x", "id": "é" * 65}, 422, "id"),
        ("PUT", "/goals", {"text": "x", "aims": [{"metric": "likes", "direction": "up"}]}, 422, "aims[0].metric"),
        ("PUT", "/goals", {"text": "x", "aims": [{"metric": "ctr", "direction": "left"}]}, 422, "aims[0].direction"),
        ("PUT", "/goals", {"text": "x", "bounds": [{"metric": "ctr"}]}, 422, "bounds[0]"),
        ("PUT", "/goals", {"text": "x", "bounds": [{"metric": "ctr", "low": 2, "high": 1}]}, 422, "bounds[0]"),
        ("PUT", "/goals", {"text": "x", "until_ms": NOW}, 422, "until_ms"),
        ("PUT", "/goals", {"text": "x", "from_ms": NOW + 9, "until_ms": NOW + 9}, 422, "until_ms"),
        ("PUT", "/goals/none/proposal", NEAR, 404, "id"),
        ("PUT", "/goals/g/proposal", {"weights": {"user_satisfaction": 1}}, 422, "weights"),
        ("PUT", "/goals/g/proposal", {"weights": dict.fromkeys(NEAR["weights"], 0)}, 422, "weights"),
        ("PUT", "/goals/g/proposal", {"weights": dict.fromkeys(NEAR["weights"], -1)}, 422, None),
        ("PUT", "/goals/g/proposal", NEAR | {"program": "import os"}, 422, "program"),
        ("POST", "/goals/g/approve", None, 409, "id"),
        ("POST", "/goals/none/approve", None, 404, "id"),
        ("POST", "/goals/none/refuse", None, 404, "id"),
        ("DELETE", "/goals/none", None, 404, "id"),
        ("GET", "/audit?limit=0", None, 422, "limit"),
        ("GET", "/audit?since=x", None, 422, "since"),
    ],
)
def test_bad_input(one_service, method, path, body, status, field):
    one, loop = one_service
    before = loop.run_until_complete(one.done("GET", "/goals"))
    refused(loop.run_until_complete(one(method, path, body)), status, field=field)
    assert loop.run_until_complete(one.done("GET", "/goals")) == before


@pytest.fixture(scope="module")
def one_service(tmp_path_factory):
    """With a goal ``g`` that waits for a proposal."""
    loop = asyncio.new_event_loop()
    context = inside(tmp_path_factory.mktemp("goals"), store="memory:")
    one = loop.run_until_complete(context.__aenter__())
    loop.run_until_complete(one.done("PUT", "/goals", {"text": "raise GMV", "id": "g"}))
    yield one, loop
    loop.run_until_complete(context.__aexit__(None, None, None))
    loop.close()


def test_of_several_servers_each_goes_by_what_one_was_told(tmp_path):
    async def story():
        all_of = Several(tmp_path)
        all_of.contents("a")
        told, hears = await all_of.server(), await all_of.server()
        now = all_of.clock()
        proposal = Proposal(goal_id="g", weights=weights_of((0.5, 0.3, 0.2)), source="operator", created_at=now)

        def wanted(goals):
            from test_goals import ANN, asked

            goals.ask(asked("g"), ANN, now)
            goals.propose(proposal, ANN, now)
            goals.approve("g", "", ANN, now, 0.3, 1)

        await told.change_goals(wanted)
        assert told.live.in_force.version == "1:g"  # at once
        assert hears.live.in_force.version == "0"
        await hears.follow_changes()
        answer = await hears.recommend(request("u", ["a", "x"], size=2))
        assert answer.weights_version == "1:g"
        await all_of.tick(told, hears)
        assert all_of.worker.live.in_force.weights == proposal.weights  # what the tick goes by
        all_of.restart()
        all_of.worker.tick()
        assert all_of.worker.live.in_force.version == "1:g"
        all_of.fold()
        (body,) = all_of.store.get("decision", [answer.decision_id])
        assert msgspec.json.decode(body, type=wire.Logged).weights == proposal.weights
        for node in (told, hears):
            all_of.kill(node)
        all_of.worker.consumer.close()

    asyncio.run(story())
