"""``upwell tune``: a random search over what may be tuned of an arm, the same for every arm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import (
    Json,
    Overrides,
    ProtocolBurnIn,
    ProtocolContents,
    ProtocolDays,
    ProtocolUsers,
    WorldFile,
    emit,
    number,
    progress,
    sized_world,
    table,
)
from upwell.errors import BadRequest


def tune(
    arms: Annotated[str, typer.Argument(help="arms to tune, comma-separated")],
    trials: Annotated[int, typer.Option(help="settings tried of each arm", min=1)] = 12,
    seeds: Annotated[str, typer.Option(help="development seeds, comma-separated; from 100 on")] = "100,101,102",
    users: ProtocolUsers = None,
    contents: ProtocolContents = None,
    days: ProtocolDays = None,
    burn_in: ProtocolBurnIn = None,
    world: WorldFile = None,
    set: Overrides = None,
    out: Annotated[Path, typer.Option(help="folder of the trials; those found there are not run again")] = Path(
        "out/tune"
    ),
    oracle: Annotated[bool, typer.Option(help="run the oracle too, for the share of its gap that is closed")] = False,
    json: Json = False,
) -> None:
    """Try settings of each arm's declared tunables; the best by mean objective over the seeds is printed."""
    from upwell.arms.registry import space
    from upwell.experiment import tuning
    from upwell.experiment.protocol import fixed
    from upwell.experiment.runner import Plan

    names = [name for name in dict.fromkeys(arms.split(",")) if name]
    for name in names:
        space(name)
    try:
        drawn = tuple(int(seed) for seed in seeds.split(","))
    except ValueError:
        raise BadRequest(f"--seeds {seeds}: give whole numbers, such as 100,101,102") from None
    tuning.check(drawn)
    if world and "heldout" in world.resolve().parts:
        raise BadRequest(f"--world {world}: held-out worlds are judged on and never tuned on")
    protocol = fixed()
    contents = contents or protocol.contents
    config = sized_world(world, set, users or protocol.users, contents)
    length = protocol.burn_in if burn_in is None else burn_in
    plan = Plan(config, tuple(names), drawn, days or protocol.days, length)
    with progress("days", tuning.days_left(plan, trials, out, oracle)) as step:
        result = tuning.run(plan, trials, out, step, oracle)
    emit({"arms": result}, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    for name, best in result.items():
        rows = [[key, number(value)] for key, value in best["values"].items()]
        rows += [["objective", f"{best['objective']:.4f}"], ["gain over raw", f"{best['gain']:+.4f}"]]
        if best["gap_closed"] is not None:
            rows.append(["share of the oracle's gap closed", f"{best['gap_closed']:.1%}"])
        table(f"{name}: best of {len(best['trials'])} (trial {best['trial']})", ["tunable", "value"], rows)
