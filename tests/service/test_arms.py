"""What a platform does itself by arm: who is in which, what it pushes, and how that is counted."""

from __future__ import annotations

import asyncio

import pytest
from inside import CLIENT, inside
from service_samples import DAY_MS, NOW

from upwell.client import calls

PLAN = {
    "experiment": {
        "name": "rankers",
        "arms": [
            {"name": "own", "share": 0.5, "settings": {"mode": "ranker", "ranker": "deepfm"}},
            {"name": "upwell", "share": 0.5},
        ],
    }
}
USERS = [f"u{n}" for n in range(60)]


def asked(*users: str, **context) -> dict:
    return {"users": [{"id": user, "context": context} for user in users]}


@pytest.mark.parametrize("design", [None, "user_split", "budget_split", "co_diverted"])
def test_the_arms_told_are_those_that_decide(tmp_path, design):
    async def story():
        async with inside(tmp_path, holdout=0.1) as one:
            plan = {"experiment": PLAN["experiment"] | ({"design": design} if design else {})}
            made = await one("POST", "/experiments", plan)
            assert made.status_code == 201
            assert made.json()["plan"]["experiment"].get("design", "user_split") == (design or "budget_split")
            told = await one.done("POST", "/experiments/rankers/arms", asked(*USERS), key=CLIENT)
            assert told["stage"] == 0
            decided = [await one.decide(user) for user in USERS]
            logged = [await one.done("GET", f"/decisions/{answer['decision_id']}") for answer in decided]
            assert [line["experiments"].get("rankers") for line in logged] == told["arms"]
            assert set(told["arms"]) == {"own", "upwell", None}
            assert [answer["arm"] == "raw" for answer in decided] == [arm == "own" for arm in told["arms"]]
            # To ask exposes nobody, and an experiment that is over has no arms.
            (slates, users) = zip(*((arm["slates"], arm["users"]) for arm in (await shown(one))["arms"]), strict=True)
            assert sum(slates) == sum(users) == 60 - told["arms"].count(None)
            await one.done("DELETE", "/experiments/rankers")
            over = await one.done("POST", "/experiments/rankers/arms", asked(*USERS))
            assert over["arms"] == [None] * 60

    asyncio.run(story())


async def shown(one) -> dict:
    await one.node.saver.flush()
    return await one.done("GET", "/experiments/rankers")


def test_targets_go_by_what_is_said_and_what_is_known(tmp_path):
    targets = [
        {"attribute": "country", "comparison": "==", "value": "FR"},
        {"attribute": "age_days", "comparison": "<", "value": 7},
    ]

    async def story():
        async with inside(tmp_path, holdout=0.0) as one:
            plan = {"experiment": PLAN["experiment"] | {"targets": targets}}
            assert (await one("POST", "/experiments", plan)).status_code == 201
            await one("PUT", "/users/old", {"created_at": NOW - 30 * DAY_MS})
            await one("PUT", "/users/new", {"created_at": NOW - DAY_MS})
            french = await one.done("POST", "/experiments/rankers/arms", asked("old", "new", "unknown", country="FR"))
            assert [arm is not None for arm in french["arms"]] == [False, True, False]
            german = await one.done("POST", "/experiments/rankers/arms", asked("new", country="DE"))
            assert german["arms"] == [None]

    asyncio.run(story())


def test_what_the_platform_pushes_is_counted_as_heated_and_no_grant_pays(tmp_path):
    async def story():
        async with inside(tmp_path, holdout=0.0) as one:
            assert (await one("POST", "/experiments", PLAN)).status_code == 201
            for id in "abc":
                await one("PUT", f"/contents/{id}", {"creator_id": "k", "published_at": NOW})
            arms = (await one.done("POST", "/experiments/rankers/arms", asked(*USERS)))["arms"]
            own, ours = (USERS[arms.index(name)] for name in ("own", "upwell"))
            candidates = [{"id": id, "score": -float(k), "pushed": id == "b"} for k, id in enumerate("abc")]
            for user, heated in ((own, [False, True]), (ours, [False, False])):
                body = {"user_id": user, "candidates": candidates, "size": 2}
                answer = await one.done("POST", "/recommend", body)
                assert [item["id"] for item in answer["items"]] == ["a", "b"]
                assert [item["heated"] for item in answer["items"]] == heated
                told = await one.done("GET", f"/decisions/{answer['decision_id']}")
                assert [item["kind"] == "pushed" for item in told["items"]] == heated
                assert all(item["sentence"] and item["sentence_zh"] for item in told["items"])
            found = {arm["arm"]: arm["metrics"]["heated_share"] for arm in (await shown(one))["arms"]}
            assert found == {"own": 0.5, "upwell": 0.0}
            counts = (await one.done("GET", "/contents/b"))["counts"]
            assert (counts["impressions"], counts["heated"]) == (2, 0)  # no grant was spent

    asyncio.run(story())


@pytest.mark.parametrize(
    "body", [{}, {"users": []}, {"users": [{"id": ""}]}, {"users": ["u1"]}, {"users": [{"id": "u", "age": 3}]}]
)
def test_a_wrong_question_is_refused(tmp_path, body):
    async def story():
        async with inside(tmp_path) as one:
            assert (await one("POST", "/experiments", PLAN)).status_code == 201
            assert (await one("POST", "/experiments/rankers/arms", body)).status_code in (400, 422)
            assert (await one("POST", "/experiments/nothing/arms", asked("u"))).status_code == 404
            assert (await one("GET", "/experiments/rankers", key=CLIENT)).status_code == 403

    asyncio.run(story())


WEIGHTS = {"user_satisfaction": 0.0, "platform_revenue": 1.0, "long_term": 0.0}
CONTENTS = [f"c{n}" for n in range(30)]


async def lived(folder, settings: dict | None, age_days: int = 30, **given) -> list[dict]:
    """Decisions for some users by a service whose every user is in an arm with ``settings``, or that has no arms."""
    async with inside(folder, holdout=0.0, policy="marl", seed=3, cap=0.0, **given) as one:
        one.node.live.server = "same"
        if settings is not None:
            arms = [{"name": "none", "share": 0.0}, {"name": "all", "share": 1.0, "settings": settings}]
            plan = {"experiment": {"name": "whole", "arms": [arms[0] | {"room": 0.0}, arms[1] | {"room": 1.0}]}}
            assert (await one("POST", "/experiments", plan)).status_code == 201
        for n, id in enumerate(CONTENTS):
            body = {"creator_id": "k", "published_at": NOW - n * DAY_MS, "tags": [f"t{n % 7}"], "price": 1.0 + n}
            assert (await one("PUT", f"/contents/{id}", body)).status_code in (200, 201)
        for user in USERS[:20]:
            await one("PUT", f"/users/{user}", {"created_at": NOW - age_days * DAY_MS})
        await one.node.tick()  # what is known of contents is as of it
        told = []
        for turn in range(3):
            for user in USERS[:20]:
                candidates = [{"id": id, "score": -0.1 * n} for n, id in enumerate(CONTENTS)]
                body = {"user_id": user, "candidates": candidates, "size": 8}
                answer = await one.done("POST", "/recommend", body)
                assert not answer["degraded"]
                told.append(await one.done("GET", f"/decisions/{answer['decision_id']}"))
            one.wait((turn + 1) * 3_600_000)
        return told


def of_slates(decisions: list[dict]) -> list[list]:
    return [[(item["id"], item["kind"], item["logit"]) for item in one["items"]] for one in decisions]


def test_an_arms_weights_decide_as_the_services_own_would(tmp_path):
    """Before any tick, users' agents alone go by them."""

    def of(name: str, settings: dict | None, **given) -> list[dict]:
        return asyncio.run(lived(tmp_path / name, settings, **given))

    plain, armed = of("plain", None), of("armed", {"weights": WEIGHTS})
    whole = of("whole", None, weights=tuple(WEIGHTS.values()))
    assert of_slates(armed) == of_slates(whole)
    assert of_slates(armed) != of_slates(plain)
    assert {(one["weights_version"], one["weights"]["platform_revenue"]) for one in armed} == {("whole/all", 1.0)}
    assert {one["weights_version"] for one in plain} == {"0"}


def test_an_arms_guards_are_its_users(tmp_path):
    """Nothing is tried on the new, unless the arm protects nobody."""

    def tried(name: str, guards: dict) -> float:
        decisions = asyncio.run(lived(tmp_path / name, {"guards": guards}, age_days=0))
        return sum(one["explore_probability"] > 0.0 for one in decisions) / len(decisions)

    assert tried("protected", {"protection_days": 3.0}) == 0.0
    assert tried("free", {"protection_days": 0.0}) == 1.0


def test_the_client_marks_what_is_pushed():
    wire = calls.recommend("u", [("a", 1.0), ("b", 0.5)], 2, {"pushed": ["b"]})
    assert wire.body is not None
    assert b'{"id":"b","score":0.5,"pushed":true}' in wire.body
    assert b'{"id":"a","score":1.0}' in wire.body  # nothing more to send


def test_a_warm_up_counts_and_treats_nobody(tmp_path):
    async def story():
        async with inside(tmp_path, holdout=0.0) as one:
            plan = PLAN | {"warmup_s": 3_600}
            assert (await one("POST", "/experiments", plan)).status_code == 201
            assert not any((await one.done("POST", "/experiments/rankers/arms", asked(*USERS)))["arms"])
            assert all([(await one.decide(user))["arm"] == "rules" for user in USERS])
            warm = await shown(one)
            assert sum(arm["users"] for arm in warm["arms"]) == 60
            assert (await one("PATCH", "/experiments/rankers", {"shares": {"own": 0.1}})).status_code == 409
            one.wait(3_599_000)
            await one.node.tick()
            assert (await shown(one))["stage"] == 0
            one.wait(1_000)
            await one.node.tick()
            await one.node.follow_changes()  # as it does every half second
            started = await shown(one)
            assert (started["stage"], sum(arm["users"] for arm in started["arms"])) == (1, 0)
            assert [event["what"] for event in started["history"]] == ["running", "started"]
            arms = (await one.done("POST", "/experiments/rankers/arms", asked(*USERS)))["arms"]
            decided = [(await one.decide(user))["arm"] for user in USERS]
            assert [arm == "raw" for arm in decided] == [arm == "own" for arm in arms]
            # Who was counted in an arm before is in it now.
            assert [arm["users"] for arm in (await shown(one))["arms"]] == [arm["users"] for arm in warm["arms"]]

    asyncio.run(story())


def test_a_switchback_has_no_warm_up(tmp_path):
    async def story():
        async with inside(tmp_path) as one:
            turns = PLAN["experiment"] | {"design": "switchback", "slot_s": 3_600}
            refused = await one("POST", "/experiments", {"experiment": turns, "warmup_s": 60})
            assert (refused.status_code, refused.json()["error"]["field"]) == (422, "warmup_s")

    asyncio.run(story())
