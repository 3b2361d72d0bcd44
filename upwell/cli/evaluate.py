"""``upwell evaluate``: what another policy would have earned on logged traffic."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwell.cli.common import Json, emit, number, stdout, table
from upwell.errors import BadRequest

if TYPE_CHECKING:
    from upwell.experiment import ope
    from upwell.logs.dataset import Dataset

EVEN = "uniform"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell evaluate obd/random/men --policy obd/bts/men --json")(evaluate)


def evaluate(
    log: Annotated[
        Path, typer.Argument(help="a log with propensities (file, folder or import), or a service's data folder")
    ],
    policy: Annotated[
        str,
        typer.Option(
            help="who is asked about. Of a log: uniform, or a log of theirs, from which their choices are counted. "
            "Of a service: a shipped policy or a file of one; default: marl"
        ),
    ] = "",
    estimators: Annotated[str, typer.Option(help="comma-separated: ips, snips, dm, dr, switch_dr")] = (
        "ips,snips,dm,dr,switch_dr"
    ),
    most_weight: Annotated[float, typer.Option(help="largest importance weight", min=1.0)] = 100.0,
    json: Json = False,
) -> None:
    """Estimate off-policy what another policy would have earned: intervals, effective sample size, overlap.

    Of a log it is the click rate; of a service's data the gain of users' six hours over the mean, in shares of it.
    """
    from upwell.experiment import ope

    wanted = [name for name in estimators.split(",") if name]
    if unknown := [name for name in wanted if name not in ope.ESTIMATORS]:
        raise BadRequest(f"--estimators: unknown '{unknown[0]}': choose from {', '.join(ope.ESTIMATORS)}")
    judge = of_service if (log / "journal").is_dir() else of_log
    result = {"log": str(log), **judge(log, policy, wanted, most_weight)}
    emit(result, json, lambda: show(result))


def of_log(log: Path, policy: str, wanted: list[str], most: float) -> dict[str, Any]:
    """Of logged choices with their chances."""
    from upwell.experiment import ope
    from upwell.logs import choices

    policy = policy or EVEN
    theirs = [] if policy == EVEN else [Path(policy)]
    with TemporaryDirectory(prefix="upwell-evaluate-") as folder:
        ours, *others = choices.read([opened(path, Path(folder) / str(n)) for n, path in enumerate((log, *theirs))])
    asked = choices.counted(others[0]) if others else choices.even(ours)
    found = {name: choices.estimate(ours, asked, ope.ESTIMATORS[name], most) for name in wanted}
    samples = choices.samples(ours, choices.models(ours), asked)
    return {
        "policy": policy, "of": "click rate",
        "policy_logged": mean_of(others[0].reward, others[0].user) if others else None,
        **told(samples, found, most, choices.unsupported(ours, asked)),
    }  # fmt: skip


def of_service(log: Path, policy: str, wanted: list[str], most: float) -> dict[str, Any]:
    """Of a running service's journal: users' agents by another policy's network, the rest as it was."""
    from upwell.experiment import ope
    from upwell.online import gate
    from upwell.online.learner import steps_of
    from upwell.online.logged import steps_of_journal
    from upwell.service import learned

    policy = policy or "marl"
    asked = learned.load(policy)
    assert asked is not None
    steps, deviation = steps_of_journal(log)
    (samples,) = gate.samples(gate.fair(steps_of(steps)), deviation, asked.policy.user)
    found = {name: ope.estimate(samples, ope.ESTIMATORS[name], most) for name in wanted}
    return {"policy": policy, "of": "gain a step", "policy_logged": None, **told(samples, found, most, 0.0)}


def told(samples: ope.Samples, found: dict[str, ope.Estimate], most: float, unsupported: float) -> dict[str, Any]:
    """What both kinds of log tell."""
    from upwell.experiment import ope

    weight = samples.weight
    return {
        "choices": len(weight), "users": int(samples.cluster.max()) + 1,
        "logged": mean_of(samples.reward, samples.cluster),
        "estimates": {name: one._asdict() for name, one in found.items()},
        "overlap": {
            "effective_samples": ope.effective_samples(weight), "largest_weight": float(weight.max()),
            "mean_weight": float(weight.mean()), "cut": float((weight > most).mean()), "unsupported": unsupported,
        },
    }  # fmt: skip


def opened(path: Path, folder: Path) -> Dataset:
    """A data set, or logs imported into one."""
    from upwell.cli.logs import read_logs
    from upwell.logs.dataset import open_dataset
    from upwell.logs.staging import is_ours

    if not is_ours(path):
        read_logs([path], folder)
        path = folder
    return open_dataset(path)


def mean_of(reward: Any, user: Any) -> dict[str, float]:
    """What a log's own policy earned."""
    from upwell.experiment import ope

    mean, error = ope.mean_by_cluster(reward, user)
    return {"mean": mean, "low": mean - ope.REACH * error, "high": mean + ope.REACH * error}


def show(result: dict[str, Any]) -> None:
    """For people."""
    rows = [row("the log's own policy", result["logged"])]
    if result["policy_logged"]:
        rows.append(row("the policy, on its own log", result["policy_logged"]))
    rows += [row(name, one) for name, one in result["estimates"].items()]
    table(f"{result['of']}, %", ["estimate", "mean", "95% interval", "effective samples"], rows)
    overlap = result["overlap"]
    stdout.print(
        f"{result['choices']:,} choices of {result['users']:,} users count as {number(overlap['effective_samples'])}; "
        f"largest weight {number(overlap['largest_weight'])}, mean {overlap['mean_weight']:.3f} (1 where chances are "
        f"right); {overlap['cut']:.2%} of weights cut; of {overlap['unsupported']:.2%} of what the policy would show "
        "the log says nothing",
        markup=False,
    )


def row(name: str, one: dict[str, float]) -> list[str]:
    effective = number(one["effective_samples"]) if "effective_samples" in one else ""
    interval = f"{100 * one['low']:.3f} … {100 * one['high']:.3f}"
    return [name, f"{100 * one['mean']:.3f}", interval, effective]
