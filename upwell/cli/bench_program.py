"""``upwell bench program``: what a reward program costs."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from statistics import median
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Seed, emit, progress, sized_world, table
from upwell.errors import BadRequest

LARGE = (
    '0.2 * (tag("tag3") and followers < 1000 and d1_retention >= 60%) + 0.1 * clip(price / 100 yuan, 0, 1) '
    "- 0.1 * (heated > 500) - 0.05 * clip(age_days / 7 days, 0, 1) "
    "+ (if interest_diversity < 50% then 0.05 * match else 0.02 * valid_rate)"
)

EVALUATIONS = 300


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: taskset -c 1 upwell bench program --rounds 9 --json")(program)


def program(
    text: Annotated[str, typer.Option("--program", help="the reward program; default: a large one")] = LARGE,
    users: Annotated[int, typer.Option(help="users of the platform", min=64)] = 4_000,
    contents: Annotated[int, typer.Option(help="live contents", min=100)] = 10_000,
    arm: Annotated[str, typer.Option(help="an arm that goes by programs: rules, rules_tuned, marl")] = "rules",
    rounds: Annotated[int, typer.Option(help="pairs of days timed, after one to compile", min=1)] = 7,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Share that a reward program adds to a simulated day: the same day with and without it, in turns; medians.

    What it adds to scores is made too small to change any, so that the days are the same but for the work. Beside the
    clock's, processor time, and the program by itself: one evaluation, as often as the day has ticks, over the day. On
    a shared machine two days differ by more than a program costs; that last figure does not hang on it, and is rather
    too high: within a day the compiler joins the program with what stands around it.
    """
    import jax
    import jax.numpy as jnp

    from upwell.arms import programs as of_arms
    from upwell.arms import rules
    from upwell.arms.registry import members
    from upwell.goals import program as programs
    from upwell.world import world
    from upwell.world.arm import view_of

    found = programs.parse(text)
    scaled = programs.printed(programs.parse(f"1e-9 * ({text})"))
    plain, chosen = sized_world(None, None, users, contents), members(arm)[0]
    if chosen.requests is None:
        raise BadRequest(f"arm '{arm}' heats nothing, by a program or otherwise: choose rules, rules_tuned or marl")
    configs = {"without": plain, "with": replace(plain, goal=replace(plain.goal, program=scaled))}
    start = world.under(plain, chosen, world.reset(plain, seed))
    seconds: dict[str, list[float]] = {name: [] for name in configs}
    processor: dict[str, list[float]] = {name: [] for name in configs}
    requests = {name: 0.0 for name in configs}
    with progress("days", len(configs) * (rounds + 1)) as step:
        for number in range(rounds + 1):
            for name in sorted(configs, reverse=number % 2 == 0):
                state = jax.block_until_ready(jax.tree.map(jnp.copy, start))
                began, used = time.perf_counter(), time.process_time()
                _, report = jax.block_until_ready(world.run_day(configs[name], chosen, state))
                if number:
                    seconds[name].append(time.perf_counter() - began)
                    processor[name].append(time.process_time() - used)
                requests[name] = float(report["requests"])
                step()
    view = view_of(configs["with"], start, jnp.uint32(1))
    ids = rules.everything(view)
    given = view, rules.standing(view, ids), rules.best_match(view, ids)
    # What calling any compiled function of so many arrays takes is taken off.
    calls = {"with": jax.jit(of_arms.bonus_of), "without": jax.jit(lambda view, known, best: best + 1.0)}
    evaluations: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(EVALUATIONS):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call(*given))
            evaluations[name].append(time.perf_counter() - began)
    evaluation_s = median(evaluations["with"]) - median(evaluations["without"])
    ticks = int(jax.jit(world.start_day, static_argnames="arm")(plain, chosen, start).ticks)
    result: dict[str, Any] = {
        "nodes": sum(1 for _ in programs.nodes(found)), "users": users, "contents": contents, "arm": arm,
        "rounds": rounds, "seconds_a_day_without": median(seconds["without"]),
        "seconds_a_day_with": median(seconds["with"]),
        "share_added": median(seconds["with"]) / median(seconds["without"]) - 1.0,
        "share_added_processor": median(processor["with"]) / median(processor["without"]) - 1.0,
        "evaluation_us": 1e6 * evaluation_s, "ticks": ticks,
        "share_by_itself": ticks * evaluation_s / median(seconds["without"]),
        "same_day": requests["with"] == requests["without"], "device": jax.devices()[0].platform,
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    rows = [[name, f"{value:,.4f}" if isinstance(value, float) else str(value)] for name, value in result.items()]
    emit(result, json, lambda: table("reward program", ["figure", "value"], rows))
