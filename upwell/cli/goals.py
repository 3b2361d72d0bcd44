"""``upwell goals``: what operators want of the platform, in words, and which weights that comes to."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from upwell.cli import propose
from upwell.cli.asking import HERE, By, Token, Url, Why, asked
from upwell.cli.common import Json, emit, number, stdout
from upwell.cli.explain import clock, escaped
from upwell.errors import BadRequest

app = typer.Typer(no_args_is_help=True, help="Goals in words: proposed, proven in simulation, approved, lifted.")
propose.register(app)
Id = Annotated[str, typer.Argument(help="the goal's id")]


@app.command("list")
def goals(url: Url = HERE, token: Token = None, json: Json = False) -> None:
    """Goals of the running service, what is proposed for each, and the weights that hold."""
    told = asked(url, token, lambda client: client.goals())
    emit(told, json, lambda: show(told))


@app.command()
def put(
    text: Annotated[str, typer.Argument(help="what you want, in English or Chinese")],
    id: Annotated[str | None, typer.Option(help="a name for the goal; default: made up")] = None,
    from_ms: Annotated[int | None, typer.Option("--from", help="Unix ms when it begins to hold")] = None,
    until_ms: Annotated[int | None, typer.Option("--until", help="Unix ms when it is lifted")] = None,
    weights: Annotated[
        str | None, typer.Option(help="propose these yourself: user satisfaction, revenue, long term, as 5,3,2")
    ] = None,
    url: Url = HERE,
    token: Token = None,
    by: By = "",
    json: Json = False,
) -> None:
    """Ask the running service for something. Nothing changes before its proposal is approved."""
    options: dict[str, Any] = {"id": id, "from_ms": from_ms, "until_ms": until_ms}
    options = {name: value for name, value in options.items() if value is not None}
    own = None if weights is None else parsed(weights)

    def ask(client: Any) -> dict[str, Any]:
        told = client.put_goal(text, **options)
        return told if own is None else told | client.put_weights(told["id"], own)

    told = asked(url, token, ask, by)
    emit(told, json, lambda: show_asked(told))


@app.command()
def approve(id: Id, why: Why = "", url: Url = HERE, token: Token = None, by: By = "", json: Json = False) -> None:
    """Take what is proposed for a goal. A large move needs this twice, with both operators' tokens."""
    told = asked(url, token, lambda client: client.approve(id, why), by)
    emit(told, json, lambda: show(told))


@app.command()
def refuse(id: Id, why: Why = "", url: Url = HERE, token: Token = None, by: By = "", json: Json = False) -> None:
    """A goal, or what is proposed for it, is not to come in force."""
    told = asked(url, token, lambda client: client.refuse(id, why), by)
    emit(told, json, lambda: show(told))


@app.command()
def lift(id: Id, why: Why = "", url: Url = HERE, token: Token = None, by: By = "", json: Json = False) -> None:
    """Lift a goal: the weights before it hold again."""
    told = asked(url, token, lambda client: client.lift(id, why), by)
    emit(told, json, lambda: show(told))


def parsed(text: str) -> Any:
    """Weights as they are given on the command line. Raises BadRequest."""
    from upwell.service.goals import weights_of

    try:
        user, revenue, long_term = (float(part) for part in text.split(","))
        return weights_of((user, revenue, long_term))
    except ValueError:
        raise BadRequest(f"--weights {text}: give three numbers, such as 5,3,2") from None


def show_asked(told: dict[str, Any]) -> None:
    """What came of asking."""
    stdout.print(f"goal {told['id']}", markup=False)
    for clause in told["unread"]:
        stdout.print(f"not understood: {clause}", markup=False)
    show(told)


def show(told: dict[str, Any]) -> None:
    """For people."""
    now = told["in_force"]
    stdout.print(f"in force: {shares(now['weights'])} (version {now['version']})", markup=False)
    view = Table(title="goals", title_justify="left")
    for name in ("goal", "state", "words", "wants", "weights", "predicted", "lately"):
        view.add_column(name)
    for goal in told["goals"]:
        last, proposal = goal["history"][-1], goal["proposal"]
        weights = shares(proposal["weights"]) + (", large" if goal["large"] else "") if proposal else ""
        view.add_row(
            escaped(goal["id"]), goal["state"].replace("_", " "), escaped(goal["goal"]["text"][:200]),
            escaped(wants(goal["goal"])), weights, predicted(goal), escaped(f"{clock(last['at_ms'])} {last['who']}"),
        )  # fmt: skip
    stdout.print(view)


def shares(weights: dict[str, float]) -> str:
    """Weights in words."""
    total = sum(weights.values())
    return ", ".join(f"{name.replace('_', ' ')} {value / total:.0%}" for name, value in weights.items())


def wants(goal: dict[str, Any]) -> str:
    """Aims and bounds in short."""
    aims = [f"{aim['metric']} {aim['direction']}" for aim in goal["aims"]]
    for bound in goal["bounds"]:
        for side, sign in (("low", ">="), ("high", "<=")):
            if bound[side] is not None:
                level = f"{bound[side]:+.1%}" if bound["relative"] else number(bound[side])
                aims.append(f"{bound['metric']} {sign} {level}")
    return "\n".join(aims)


def predicted(goal: dict[str, Any]) -> str:
    """Predicted changes of what the goal names."""
    effects = goal["proposal"]["predicted"] if goal["proposal"] else {}
    named = dict.fromkeys(one["metric"] for one in (*goal["goal"]["aims"], *goal["goal"]["bounds"]))
    return "\n".join(f"{name} {effects[name]['change']:+.4g}" for name in named if name in effects)
