"""The slow tick under a reward program: a part of each request's score, silent while it reads what is not known."""

import logging

import msgspec
import numpy as np
from service_samples import NOW
from ticker_samples import Server

from upwell.goals.program import parse
from upwell.service import ticker
from upwell.service.records import DIMS


def test_a_tick_of_the_service_goes_by_the_program():
    def once(text: str, **platform: float) -> dict[str, dict[str, float]]:
        server = Server()
        for n in range(60):
            row = server.add(n, age_days=4)  # past the chance that every new content is owed
            server.count(row, impressions=200, clicks=10, valid=6)
            server.live.contents.info[row] = msgspec.structs.replace(
                server.live.contents.info[row], tags=("food",) if n % 2 else (), category="sport" if n % 3 else ""
            )
        ticked = ticker.once(
            server.settings, server.live.contents, server.books, np.zeros((1, DIMS), np.float32), 1, NOW, 0.0, 1.0,
            0.05, 30_000.0, server.live.in_force.weights, program=parse(text) if text else None, platform=platform,
        )  # fmt: skip
        lines = ticked.batch.appends["grant"]
        return {name: msgspec.json.decode(line[-1])["score"] for name, line in lines.items()}

    plain, food = once(""), once('if tag("food") then 0.2 else -0.1')
    assert all("program" not in score for score in plain.values())
    added = {name: score["program"] for name, score in food.items() if score}
    assert len(set(added.values())) == 2
    assert all(value == (0.2 if int(name[1:]) % 2 else -0.1) for name, value in added.items())
    sport = once('0.1 * tag("sport") * (d1_retention > 50%)', d1_retention=0.6)
    assert {score["program"] for score in sport.values() if score} == {0.0, 0.1}
    unknown = once("0.1 + 0.1 * (d1_retention > 50%)")
    assert {score["program"] for score in unknown.values() if score} == {0.0}


def test_a_program_that_this_version_does_not_read_stops_no_tick(caplog):
    server = Server()
    server.add(1)
    server.live.in_force = msgspec.structs.replace(server.live.in_force, program="from tomorrow")
    with caplog.at_level(logging.ERROR):
        ticked = server.tick()
    assert ticked.changes["granted"].sum() > 0
    assert "is left out: program, column 1" in caplog.text


def test_the_program_in_force_is_what_a_tick_goes_by():
    server = Server()
    server.live.in_force = msgspec.structs.replace(server.live.in_force, program='0.1 * tag("food")')
    for n in range(30):
        server.count(server.add(n, age_days=4, tags=("food",)), impressions=200, clicks=10, valid=6)
    lines = server.begin().batch.appends["grant"]
    scores = [msgspec.json.decode(line).get("score") for each in lines.values() for line in each]
    assert {score["program"] for score in scores if score} == {0.1}
