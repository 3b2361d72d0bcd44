"""``upwell evaluate``: what another policy would have earned on logged traffic."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upwell.cli.common import Json, emit, number, stdout, table
from upwell.errors import BadRequest

if TYPE_CHECKING:
    from upwell.logs.dataset import Dataset

EVEN = "uniform"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell evaluate obd/random/men --policy obd/bts/men --json")(evaluate)


def evaluate(
    log: Annotated[Path, typer.Argument(help="log with propensities: a file, a folder, or an import")],
    policy: Annotated[
        str, typer.Option(help="who is asked about: uniform, or a log of theirs, from which their choices are counted")
    ] = EVEN,
    estimators: Annotated[str, typer.Option(help="comma-separated: ips, snips, dm, dr, switch_dr")] = (
        "ips,snips,dm,dr,switch_dr"
    ),
    most_weight: Annotated[float, typer.Option(help="largest importance weight", min=1.0)] = 100.0,
    json: Json = False,
) -> None:
    """Estimate a policy's click rate off-policy: with intervals, effective sample size, and what the log cannot say."""
    from upwell.experiment import ope
    from upwell.logs import choices

    wanted = [name for name in estimators.split(",") if name]
    if unknown := [name for name in wanted if name not in ope.ESTIMATORS]:
        raise BadRequest(f"--estimators: unknown '{unknown[0]}': choose from {', '.join(ope.ESTIMATORS)}")
    theirs = [] if policy == EVEN else [Path(policy)]
    with TemporaryDirectory(prefix="upwell-evaluate-") as folder:
        ours, *others = choices.read([opened(path, Path(folder) / str(n)) for n, path in enumerate((log, *theirs))])
    asked = choices.counted(others[0]) if others else choices.even(ours)
    found = {name: choices.estimate(ours, asked, ope.ESTIMATORS[name], most_weight) for name in wanted}
    weight = choices.samples(ours, choices.models(ours), asked).weight
    result: dict[str, Any] = {
        "log": str(log), "policy": policy, "choices": len(weight), "users": int(ours.user.max()) + 1,
        "logged": mean_of(ours), "policy_logged": mean_of(others[0]) if others else None,
        "estimates": {name: one._asdict() for name, one in found.items()},
        "overlap": {
            "effective_samples": ope.effective_samples(weight), "largest_weight": float(weight.max()),
            "mean_weight": float(weight.mean()), "cut": float((weight > most_weight).mean()),
            "unsupported": choices.unsupported(ours, asked),
        },
    }  # fmt: skip
    emit(result, json, lambda: show(result))


def opened(path: Path, folder: Path) -> Dataset:
    """A data set, or logs imported into one."""
    from upwell.cli.logs import read_logs
    from upwell.logs.dataset import open_dataset
    from upwell.logs.staging import is_ours

    if not is_ours(path):
        read_logs([path], folder)
        path = folder
    return open_dataset(path)


def mean_of(log: Any) -> dict[str, float]:
    """The click rate of a log's own policy."""
    from upwell.experiment import ope

    mean, error = ope.mean_by_cluster(log.reward, log.user)
    return {"mean": mean, "low": mean - ope.REACH * error, "high": mean + ope.REACH * error}


def show(result: dict[str, Any]) -> None:
    """For people."""
    rows = [row("the log's own policy", result["logged"])]
    if result["policy_logged"]:
        rows.append(row("the policy, on its own log", result["policy_logged"]))
    rows += [row(name, one) for name, one in result["estimates"].items()]
    table("click rate, %", ["estimate", "mean", "95% interval", "effective samples"], rows)
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
