"""A content's life story: what is told of it at the slow ticks, and what is not told twice."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from ticker_samples import HOUR_MS, TICK_MS, Server

from upwell.service import story


def told(server: Server, row: int) -> list[dict]:
    return [story.told(line) for line in server.store.tail("grant", server.live.contents.rows.names[row], 1_000)]


def whats(server: Server, row: int) -> list[str]:
    return [line["what"] for line in told(server, row) if line["what"] != "day"]


def test_a_new_content_is_told_of_its_chance():
    server = Server()
    row = server.add(1)
    server.tick()
    first = told(server, row)[0]
    assert first["what"] == "chance"
    assert first["granted"] == 10  # 50 times scale
    assert first["price"] > 0
    assert first["ts"] == server.now
    assert f"{first['granted']} impressions" in first["sentence"]
    assert f"{first['granted']}次曝光" in first["sentence_zh"]


def test_a_grant_says_what_was_asked_bid_and_paid_and_what_the_score_was_made_of():
    server = Server()
    row = server.add(1, age_days=4.0)
    server.count(row, impressions=50, clicks=10, valid=8)
    for number in range(2, 6):
        server.count(server.add(number, age_days=4.0), impressions=60)
    for _ in range(12):
        server.now += TICK_MS
        server.tick()
    (line,) = [line for line in told(server, row) if line["what"] == "granted"]
    assert line["granted"] == server.books.of["granted"][row]
    assert line["price"] == server.books.of["price_units"][row] / 10_000
    assert line["asked"] >= line["granted"]
    assert line["bid"] >= line["price"]
    assert line["score"].keys() == {"match", "bid", "retention"}
    assert sum(line["score"].values()) > 0.7  # what the rules approve from


def test_a_cheat_is_told_once_and_so_is_who_waits():
    server = Server()
    cheat, other = server.add(1, age_days=4.0), server.add(2, age_days=4.0)
    server.count(cheat, impressions=400, clicks=200, valid=4)
    server.count(other, impressions=60, clicks=0)
    for _ in range(20):
        server.now += TICK_MS
        server.tick()
    assert whats(server, cheat) == ["cheat"]
    told_of_other = whats(server, other)
    assert told_of_other
    assert all(a != b for a, b in pairwise(told_of_other) if a not in ("granted", "chance"))


def test_what_ends_a_grant_is_told():
    server = Server()
    row = server.add(1)
    server.tick()
    server.heat(row, 10)
    server.count(row, impressions=500)  # and hardly a click
    server.now += 4 * 24 * HOUR_MS
    for _ in range(12):
        server.now += TICK_MS
        server.tick()
    ends = [line for line in told(server, row) if line.get("released")]
    assert all(line["what"] in ("hopeless", "outgrown") for line in ends)
    assert sum(line.get("granted", 0) for line in told(server, row)) == server.books.of["granted"][row]
    assert sum(line.get("released", 0) for line in told(server, row)) == server.books.of["released"][row]


def test_every_day_says_what_was_counted():
    server = Server()
    row = server.add(1)
    server.tick()
    server.count(row, impressions=70, clicks=3, valid=2)
    server.now += 24 * HOUR_MS
    server.tick()
    (day,) = [line for line in told(server, row) if line["what"] == "day"]
    assert day["counts"]["impressions"] == 70
    assert "70 impressions" in day["sentence"]
    assert "3 clicks, 2 of them watched" in day["sentence"]


def test_a_story_ends_with_the_content():
    server = Server()
    row = server.add(1)
    server.tick()
    server.bury(row)
    assert server.store.tail("grant", "c1", 10) == []
    server.tick()
    assert server.books.verdict[row] == story.QUIET


@pytest.mark.parametrize("what", [*story.CODES[1:], "day"])
def test_every_line_is_said_in_both_languages(what):
    line = story.Line(7, what, asked=5, granted=3, bid=0.5, price=0.25, counts={})
    if what == "day":
        line.counts = {"impressions": 9, "heated": 2, "clicks": 4, "valid": 1}
    said = story.told(msgspec.json.encode(line))
    assert said["sentence"].endswith(".")
    assert said["sentence_zh"].endswith("。")
    assert "{" not in said["sentence"] + said["sentence_zh"]


def test_what_paid_for_a_place_is_the_last_grant_before_it():
    lines = [
        msgspec.json.encode(story.Line(ts, what, granted=granted))
        for ts, what, granted in ((10, "chance", 5), (20, "waiting", 0), (30, "granted", 7), (40, "hopeless", 0))
    ]
    assert story.paying(lines, 9, "") is None
    assert story.paying(lines, 29, "")["what"] == "chance"
    assert story.paying(lines, 99, "")["granted"] == 7
    arms = msgspec.json.encode(story.Line(35, "granted", granted=2, purse="x/a"))
    assert story.paying([*lines, arms], 99, "")["granted"] == 7, "an arm's own grant pays for its users alone"
    assert story.paying([*lines, arms], 99, "x/a")["granted"] == 2
