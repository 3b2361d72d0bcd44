"""``upwell experiments``: arms of the running service, compared on its users."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from upwell.cli import replay
from upwell.cli.asking import HERE, By, Token, Url, Why, asked
from upwell.cli.common import Json, emit, number, stdout, table, toml_of
from upwell.cli.explain import clock, escaped
from upwell.errors import BadRequest
from upwell.experiment import live_rows

app = typer.Typer(no_args_is_help=True, help="Experiments on live users: create, list, analyse, ramp, stop.")
app.command("run", epilog="Example: upwell experiments run examples/four_arms.toml")(replay.run)
Name = Annotated[str, typer.Argument(help="the experiment's name")]


@app.command(epilog="Example: upwell experiments create examples/experiment.toml")
def create(
    file: Annotated[Path, typer.Argument(help="TOML file of the experiment: see docs/experiments.md")],
    url: Url = HERE,
    token: Token = None,
    by: By = "",
    json: Json = False,
) -> None:
    """Begin an experiment: its arms decide from the next request on."""
    plan = toml_of(file)
    plan.pop("platform", None)  # the simulated one, of a replay
    told = asked(url, token, lambda client: client.begin(plan), by)
    emit(told, json, lambda: show(told))


@app.command("list")
def every(url: Url = HERE, token: Token = None, json: Json = False) -> None:
    """Experiments of the running service, the latest first."""
    told = asked(url, token, lambda client: client.experiments())
    emit(told, json, lambda: show_all(told["experiments"]))


@app.command()
def analyse(name: Name, url: Url = HERE, token: Token = None, json: Json = False) -> None:
    """An experiment's arms, effects with always-valid intervals, checks, and what to do."""
    told = asked(url, token, lambda client: client.experiment(name))
    emit(told, json, lambda: show(told))


@app.command(epilog="Example: upwell experiments report calmer --out calmer.html --data calmer.parquet")
def report(
    name: Name,
    out: Annotated[Path, typer.Option(help="where to write the page")] = Path("out/experiment.html"),
    data: Annotated[Path | None, typer.Option(help="a Parquet file of all looks, a row an arm and metric")] = None,
    url: Url = HERE,
    token: Token = None,
    json: Json = False,
) -> None:
    """One page of an experiment: what to do, arms, effects, curves, checks, and its exact configuration."""
    from upwell.experiment import live_page

    told = asked(url, token, lambda client: client.experiment(name))
    live_page.write_page(told, out)
    if data is not None:
        live_page.write_data(told, data)
    emit(told | {"report": str(out)}, json, lambda: stdout.print(f"page: {out}", markup=False))


@app.command(epilog="Example: upwell experiments ramp calmer treated=0.2 control=0.2")
def ramp(
    name: Name,
    shares: Annotated[list[str], typer.Argument(help="arm=share, of as many arms as are to change")],
    why: Why = "",
    url: Url = HERE,
    token: Token = None,
    by: By = "",
    json: Json = False,
) -> None:
    """Widen or narrow arms. Nobody who stays changes arms; what is counted begins anew."""
    wanted = dict(map(share_of, shares))
    told = asked(url, token, lambda client: client.ramp(name, wanted, why), by)
    emit(told, json, lambda: show(told))


@app.command()
def stop(name: Name, why: Why = "", url: Url = HERE, token: Token = None, by: By = "", json: Json = False) -> None:
    """End an experiment: its users are as everybody again. Its figures stay."""
    told = asked(url, token, lambda client: client.stop(name, why), by)
    emit(told, json, lambda: show(told))


def share_of(text: str) -> tuple[str, float]:
    """``arm=share``. Raises BadRequest."""
    arm, _, share = text.rpartition("=")
    try:
        return arm, float(share)
    except ValueError:
        raise BadRequest(f"{text}: give arm=share, such as treated=0.2") from None


def show_all(experiments: list[dict[str, Any]]) -> None:
    """For people."""
    view = Table(title="experiments", title_justify="left")
    for name in ("experiment", "layer", "arms", "state", "lately"):
        view.add_column(name)
    for one in experiments:
        experiment, last = one["plan"]["experiment"], one["history"][-1]
        arms = ", ".join(f"{arm['name']} {arm['share']:.2%}" for arm in experiment["arms"])
        lately = f"{clock(last['at_ms'])} {last['who']} {last['why'][:120]}"
        view.add_row(escaped(one["name"]), escaped(one["plan"].get("layer", "main")), escaped(arms), last["what"],
                     escaped(lately))  # fmt: skip
    stdout.print(view)


def show(told: dict[str, Any]) -> None:
    """For people."""
    metrics = list(told["arms"][0]["metrics"])
    view = Table(title=f"{escaped(told['name'])}: arms", title_justify="left")
    for name in ("arm", "users", "slates", *metrics):
        view.add_column(name)
    for arm in told["arms"]:
        values = [number(value) if value is not None else "" for value in arm["metrics"].values()]
        view.add_row(escaped(arm["arm"]), f"{arm['users']:,}", f"{arm['slates']:,}", *values)
    stdout.print(view)
    for arm, effects in told["effects"].items():
        table(f"{escaped(arm)} over the control, always valid", live_rows.LIFTS, live_rows.lifts(effects))
        stdout.print(told["verdicts"][arm]["why"], markup=False)
    for arm, found in told["segments"].items():
        if found:
            title = f"{escaped(arm)}: for whom, at one look at the end"
            table(title, live_rows.SEGMENTS, live_rows.segments(found))
    table("checks", live_rows.CHECKS, [[escaped(cell) for cell in row] for row in live_rows.checks(told)])
