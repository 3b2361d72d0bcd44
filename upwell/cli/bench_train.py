"""``upwell bench train``: how fast the game is played and learned."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Seed, emit, progress, sized_world, table
from upwell.errors import BadRequest


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench train --users 4000 --episodes 3 --json")(train)


def train(
    algorithm: Annotated[str, typer.Option(help="mappo, maddpg or es")] = "mappo",
    users: Annotated[int, typer.Option(help="users of the platform", min=64)] = 4_000,
    contents: Annotated[int, typer.Option(help="live contents", min=100)] = 10_000,
    episodes: Annotated[int, typer.Option(help="timed, after one to compile", min=1)] = 3,
    days: Annotated[int, typer.Option(help="of an episode", min=1)] = 8,
    burn_in: Annotated[int, typer.Option(help="days before the first episode", min=8)] = 14,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Steps of user agents a second of a whole training iteration: an episode of the platform, and learning from it."""
    import jax

    from upwell.arms.raw import raw
    from upwell.experiment.runner import lived
    from upwell.learn import gains, game
    from upwell.learn.train import ALGORITHMS
    from upwell.world import world

    if algorithm not in ALGORITHMS:
        raise BadRequest(f"unknown algorithm '{algorithm}': choose from {', '.join(ALGORITHMS)}")
    config = sized_world(None, None, users, contents)
    of = ALGORITHMS[algorithm]
    learner = of.first_learner(seed, of.rates)
    steps, playing_s, learning_s = 0, 0.0, 0.0
    with progress("days", burn_in + 8 + days * (episodes + 1)) as step:
        state = world.burnt_in(config, seed, burn_in, step)
        norms = gains.norms_of(config, state, lived(config, raw, state, 8, step))
        for number in range(episodes + 1):
            began = time.perf_counter()
            policy = of.plays(learner, of.rates)
            played = game.episode(config, policy, learner.log_std, state, norms, days, seed + number)
            between = time.perf_counter()
            learner, _ = of.update(learner, played, of.rates, jax.random.key(seed + number))
            jax.block_until_ready(learner.policy)
            if number:
                steps += played.requests
                playing_s += between - began
                learning_s += time.perf_counter() - between
            for _ in range(days):
                step()
    seconds = playing_s + learning_s
    result: dict[str, Any] = {
        "algorithm": algorithm, "users": users, "contents": contents, "episodes": episodes,
        "seconds_per_iteration": seconds / episodes, "share_learning": learning_s / seconds,
        "env_steps_per_second": steps / seconds, "device": jax.devices()[0].platform,
    }  # fmt: skip
    rows = [[name, f"{value:,.3f}" if isinstance(value, float) else str(value)] for name, value in result.items()]
    emit(result, json, lambda: table("training", ["figure", "value"], rows))
