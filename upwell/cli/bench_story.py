"""``upwell bench story``: a goal's life before the running service, from its words to its end."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.bench_learning import TICKS
from upwell.cli.common import Json, emit, progress, sized_world, stdout, table
from upwell.errors import BadRequest


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench story --days 12 --json")(story)


def story(
    text: Annotated[str, typer.Argument(help="the goal, in words")] = "今天是618大促,GMV目标1亿,次日留存下降不超过1%",
    begins: Annotated[int, typer.Option(help="day on whose morning it is asked for, from 0", min=1)] = 4,
    ends: Annotated[int, typer.Option(help="day on whose morning it is lifted", min=3)] = 9,
    days: Annotated[int, typer.Option(help="that each life lasts", min=5)] = 14,
    seeds: Annotated[int, typer.Option(help="platforms", min=1)] = 1,
    users: Annotated[int, typer.Option(help="users of each", min=64)] = 1_000,
    contents: Annotated[int, typer.Option(help="live contents of each", min=100)] = 5_000,
    burn_in: Annotated[int, typer.Option(help="days under raw ranking before", min=8)] = 56,
    out: Annotated[Path, typer.Option(help="where to write the page")] = Path("out/story.html"),
    json: Json = False,
) -> None:
    """A goal in words is asked for, proposed, approved, in force and lifted, beside the same days without it.

    Each life is kept beside the page once it is lived: cut off, the same command goes on with the next one.
    """
    from upwell.demo import goal_story

    if not begins + 2 <= ends <= days - 2:
        raise BadRequest("--begins, --ends, --days: two days under the goal at least, and two after it")
    told = goal_story.Story(text, begins, ends, days)
    config = sized_world(None, None, users, contents)
    steps = seeds * (burn_in + 2 * days * TICKS)
    digest = hashlib.sha256(repr((told, users, contents, burn_in)).encode()).hexdigest()[:12]
    kept = out.with_suffix("") / digest
    with progress("days of illness, then ticks", steps) as step:
        every = [goal_story.lived(config, seed, burn_in, told, kept, step) for seed in range(seeds)]
    result = goal_story.summary(told, every)
    goal_story.write_page(told, result, out)
    result["report"] = str(out)
    emit(result, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    """For people."""
    from upwell.demo.goal_story import WATCHED, change

    first = result["goals"][0]
    stdout.print(f"{result['text']} → {first['proposal']['weights']}", markup=False)
    rows = [
        [said, *(change(result["changes"][name][window]) for window in ("before", "during", "after"))]
        for name, said in WATCHED.items()
    ]
    table("what the goal changed", ["", "before", "during", "after"], rows)
    stdout.print(
        f"approved to decided: {first['approved_to_decision_s']:.2f} s; page: {result['report']}", markup=False
    )
