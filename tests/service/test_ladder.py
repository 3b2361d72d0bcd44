"""The ladder down to the ranker's order, and what changes between a question and its answer."""

import numpy as np
from service_samples import (
    NOW,
    asked,
    content,
    known_user,
    request,
    server,
    shown,
    state_of,
)  # fmt: skip
from slate_samples import chosen

from upwell.regulator import slate
from upwell.service import wire
from upwell.service.records import COUNTS


def test_the_switch_and_a_reason_lead_to_the_rankers_order():
    live = server(12)
    ids = [f"c{n}" for n in range(30)]
    live.mode = "ranker"
    (line,) = shown(live, [request("u1", ids, size=5, exclude=("c1",))])
    assert [p.id for p in line.places] == ["c0", "c2", "c3", "c4", "c5"]
    assert (line.arm, line.policy_version, line.why) == ("raw", "ranker", None)
    live.mode = "rules"
    (line,) = shown(live, [request("u2", ids, size=5)], why="deadline")
    assert [p.id for p in line.places] == ids[:5]
    assert (line.arm, line.why) == ("raw", "deadline")
    assert wire.answer_of(line).degraded
    live.mode = "policy"
    (line,) = shown(live, [request("u4", ids, size=5)])
    assert (line.arm, line.why) == ("rules", "no_policy")


def test_a_regulator_that_fails_leaves_the_rankers_order():
    live = server(12)
    live.users.record["mind"] = np.nan  # no probability to explore can be made of this
    live.platform_ctr = -1.0
    ids = [f"c{n}" for n in range(30)]
    with np.errstate(invalid="raise"):
        (line,) = shown(live, [request("u1", ids, size=5)])
    assert [p.id for p in line.places] == ids[:5]
    assert line.why == "regulator_failed"
    assert live.failures["regulator"] == 1


def test_a_failure_halfway_leaves_one_line_a_request(monkeypatch):
    live = server(12)
    remember, failed = live._remember, []

    def fails_once(line, body):
        if len(live.outbox) == 2 and not failed:
            failed.append(line)
            raise RuntimeError("halfway")
        remember(line, body)

    monkeypatch.setattr(live, "_remember", fails_once)
    lines = shown(live, [request(f"u{u}", ["c1", "c2", "c3"], size=2) for u in range(3)])
    assert failed
    assert [line.why for line in lines] == ["regulator_failed"] * 3
    assert [wire.logged_decoder.decode(body) for _, _, body in live.outbox] == lines


def test_the_shadow_decides_and_shows_the_rankers_order():
    live = server(13, holdout=0.0)
    ids = [f"c{n}" for n in range(60)]
    lines = shown(live, [request(f"u{u}", ids, size=10, shadow=u == 2) for u in range(6)])
    for line in lines:
        if line.user_id == "u2":
            assert [p.id for p in line.places] == ids[:10]
            assert chosen(line.instead) == chosen(wire.again(line))
        else:
            assert not line.instead
    assert live.window_heated == sum(p.kind == slate.HEATED for line in lines for p in line.places) > 0
    assert live.window_shown == 60


# ---- users and contents that change between the question and the answer


def test_a_user_forgotten_while_the_request_waits_is_a_new_user():
    live = server(14)
    ids = [live.next_id(NOW) for _ in range(2)]
    batch = [asked(live, request(f"u{u}", ["c1", "c2", "c3"], size=2), ids[u]) for u in range(2)]
    live.erase("u1", NOW)
    lines = live.recommend(batch, ids, NOW)
    assert [line.user_id for line in lines] == ["u0", "u1"]
    assert not live.failures
    assert live.users.record["requests"][live.users.rows.at["u1"]] == 1
    assert live.users.record["created_ms"][live.users.rows.at["u1"]] == NOW
    assert "" not in state_of(live)["users"]
    batch = live.unsaved()
    batch.check()  # a record without an id could be kept by no store
    assert {"u0", "u1"} <= batch.puts["user"].keys()


def test_a_row_given_to_another_user_while_the_request_waits_stays_theirs():
    live = server(14)
    id = live.next_id(NOW)
    batch = [asked(live, request("u1", ["c1", "c2", "c3"], size=2), id)]
    live.erase("u1", NOW)
    row = known_user(live, "other")
    assert batch[0].user == row
    before = live.users.record[row].tobytes()
    live.recommend(batch, [id], NOW)
    assert live.users.record[row].tobytes() == before


def test_a_content_forgotten_while_the_request_waits_is_a_stranger():
    live = server(14)
    live.users.held_out[:] = True
    id = live.next_id(NOW)
    batch = [asked(live, request("u1", ["c1", "c2", "c3"], size=3), id)]
    live.contents.forget("c2")
    live.add_content(content(777), {})
    (line,) = live.recommend(batch, [id], NOW)
    assert [p.id for p in line.places] == ["c1", "c2", "c3"]
    assert live.contents.counts[live.contents.rows.at["c777"]].tolist() == [0] * len(COUNTS)
