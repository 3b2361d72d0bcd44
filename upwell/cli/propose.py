"""``upwell goals propose``: weights for a goal in words, proven in simulation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from upwell.cli.common import HEADLINE, Json, Overrides, WorldFile, emit, number, progress, sized_world, stdout, table
from upwell.errors import BadRequest
from upwell.goals.spend import TOKENS_PER_DAY

if TYPE_CHECKING:
    from upwell.goals.goal import Effect, Goal, Proposal
    from upwell.goals.reading import Read

SHOWN = 10
"""Rejections that people are shown."""

Arm = Annotated[str, typer.Option(help="who plays under the weights: marl, marl:FILE, rules …")]
Seeds = Annotated[int, typer.Option(help="simulated platforms, seeds 0, 1, …: two fifths to choose on", min=4)]
Users = Annotated[int, typer.Option(help="users of each", min=8)]
Contents = Annotated[int, typer.Option(help="live contents of each", min=10)]
Days = Annotated[int, typer.Option(help="days lived under each candidate", min=1)]
BurnIn = Annotated[int, typer.Option(help="days under raw ranking before", min=0)]
Out = Annotated[Path, typer.Option(help="folder of lived days; those found there are not lived again")]
Llm = Annotated[str | None, typer.Option(help="URL of a language model's OpenAI-compatible server")]
Model = Annotated[str, typer.Option(help="its model")]
TokensPerDay = Annotated[int, typer.Option(help="that it may be asked for, counted in --out; 0: no limit", min=0)]


def register(app: typer.Typer) -> None:
    app.command(epilog='Example: upwell goals propose "raise GMV, retention may dip 1%" --json')(propose)


def propose(
    text: Annotated[str, typer.Argument(help="the goal, in Chinese or English")],
    simulate: Annotated[bool, typer.Option(help="prove candidates in simulation: takes minutes")] = True,
    llm: Llm = None,
    model: Model = "qwen2-72b-instruct",
    tokens_per_day: TokensPerDay = TOKENS_PER_DAY,
    world: WorldFile = None,
    set: Overrides = None,
    users: Users = 500,
    contents: Contents = 1_250,
    days: Days = 7,
    burn_in: BurnIn = 56,
    seeds: Seeds = 10,
    arm: Arm = "marl",
    out: Out = Path("out/goals"),
    json: Json = False,
) -> None:
    """Propose reward weights for a goal: by search, and by a language model where one is given.

    The present setting is the world's goal: change it by --set goal.platform_revenue=0.5 and the like.
    """
    from upwell.experiment.asking import Asking
    from upwell.experiment.proof import present, simulated
    from upwell.experiment.proposing import most_days, propose, unproven
    from upwell.experiment.runner import Plan
    from upwell.goals.goal import Goal
    from upwell.goals.llm import Asker
    from upwell.goals.reading import CHINESE, read
    from upwell.goals.spend import limited

    now_ms = int(time.time() * 1_000)
    found = read(text, now_ms)
    if not found.aims and llm is None:
        raise BadRequest(nothing_asked(found))
    goal = Goal(id="asked", text=text, created_at=now_ms, aims=found.aims, bounds=found.bounds, until_ms=found.until_ms)
    spend = limited(out / "tokens.json", tokens_per_day)
    asking = Asking(Asker(llm, model, spend=spend)) if llm else None
    plan = Plan(sized_world(world, set, users, contents), (arm,), tuple(range(seeds)), days, burn_in)
    now = present(plan.config)
    if simulate:
        with progress("days", most_days(plan, asking is not None)) as step:
            proposal = propose(goal, simulated(plan, out, step), now, now_ms, asking)
    else:
        proposal = unproven(goal, now, now_ms, asking)
    result = told(goal, found, proposal, simulate)
    emit(result, json, lambda: show(result, proposal, chinese=bool(CHINESE.search(text))))


def nothing_asked(found: Read) -> str:
    from upwell.goals.measures import PLATFORM

    unread = f" ({'; '.join(found.unread)[:200]})" if found.unread else ""
    return (
        f"no metric that is to move was understood{unread}: name one and its direction, such as 'raise ctr' or "
        f"'提升点击率', or give a language model with --llm; metrics: {', '.join(PLATFORM)}"
    )


def told(goal: Goal, found: Read, proposal: Proposal, simulated: bool) -> dict[str, Any]:
    """The proposal beside what was understood, and how far it goes to each target that was named."""
    from upwell.experiment.proof import reached

    targets = {
        aim.metric: share
        for aim in goal.aims
        if aim.metric in proposal.predicted and (share := reached(aim, proposal.predicted[aim.metric])) is not None
    }
    understood = {"aims": found.aims, "bounds": found.bounds, "until_ms": found.until_ms, "unread": found.unread}
    return msgspec.to_builtins(proposal) | {"simulated": simulated, "understood": understood, "reached": targets}


SENTENCES = {
    "weights": ("weights: ", "权重:"),
    "program": ("reward program: ", "奖励程序:"),
    "unread": ("not understood: ", "未能理解:"),
    "unproven": ("nothing was simulated: what these weights do is not known", "未做仿真:这些权重的效果未知"),
    "fallback": ("nothing better was found: the present weights stay", "没有找到更好的方案:权重保持不变"),
    "meets": ("proven: every aim moves as asked, every bound holds", "已证明:各目标均按要求变化,约束均成立"),
    "fails": ("not proven: see the table", "未能证明:见下表"),
    "reached": ("of the way to a target, ", "目标完成度:"),
}
"""In English and Chinese."""


def show(result: dict[str, Any], proposal: Proposal, chinese: bool) -> None:
    """For people, in the goal's language."""

    def say(key: str, more: str = "") -> None:
        stdout.print(SENTENCES[key][chinese] + more, markup=False)

    say("weights", ", ".join(f"{name} {value:.0%}" for name, value in result["weights"].items()))
    stdout.print(f"source: {proposal.source}")
    if proposal.program:
        say("program", proposal.program)
    for clause in result["understood"]["unread"]:
        say("unread", clause)
    if proposal.predicted:
        named = [one.metric for one in (*result["understood"]["aims"], *result["understood"]["bounds"])]
        rows = [effect_row(name, proposal.predicted[name]) for name in dict.fromkeys((*named, *HEADLINE))]
        table("predicted", ["metric", "now", "then", "change, %", "95% interval, %", ""], rows)
    for metric, share in result["reached"].items():
        say("reached", f"{metric}: {share:.0%}")
    for refusal in proposal.rejected[:SHOWN]:
        stdout.print(f"- {refusal.what}: {refusal.why}", markup=False)
    if not result["simulated"]:
        say("unproven")
    elif proposal.source == "fallback":
        say("fallback")
    else:
        say("meets" if proposal.meets else "fails")


def effect_row(name: str, effect: Effect) -> list[str]:
    size = 100.0 / (abs(effect.before) or 1.0)
    clear = "*" if effect.low * effect.high > 0.0 else ""
    return [
        name, number(effect.before), number(effect.after), f"{effect.change * size:+.2f}",
        f"{effect.low * size:+.2f} … {effect.high * size:+.2f}", clear,
    ]  # fmt: skip
