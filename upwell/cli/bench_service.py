"""``upwell bench serve``, ``ingest`` and ``store``: the service under load, in processes of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Seed, emit, number, progress, table
from upwell.cli.doctor import importable
from upwell.cli.export import check_extra
from upwell.errors import BadRequest

Store = Annotated[str, typer.Option(help="memory, sqlite or redis, started for this run, or a URL on this machine")]
Events = Annotated[str, typer.Option(help="embedded or kafka, started for this run, or a URL on this machine")]
Candidates = Annotated[int, typer.Option(help="candidates a request", min=10, max=2_000)]
Connections = Annotated[int, typer.Option(help="keep-alive connections", min=1, max=1_000)]
Seconds = Annotated[float, typer.Option(help="length of each load, seconds", min=0.5, max=600)]


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell bench serve --candidates 200 --json")(serve)
    app.command(epilog="Example: upwell bench ingest --store redis --events kafka --json")(ingest)
    app.command(epilog="Example: upwell bench store --json")(store)
    app.command(epilog="Example: upwell bench soak --minutes 10 --json")(soak)
    app.command(epilog="Example: upwell bench tfserving --seconds 10 --json")(tfserving)
    app.command(epilog="Example: upwell bench learner --seconds 20 --json")(learner)
    app.command(epilog="Example: upwell bench explain --decisions 100000 --json")(explain)


def serve(
    candidates: Candidates = 200,
    connections: Connections = 32,
    seconds: Seconds = 10.0,
    store: Store = "sqlite",
    events: Events = "embedded",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Decisions a second of one server core, their latency at half of that, and the ratio to an empty route."""
    from upwell.bench import serve as bench

    loads = 2 * bench.ROUNDS + 1
    measured("serve", loads, json, partial(bench.run, candidates, connections, seconds, store, events, seed))


def ingest(
    seconds: Seconds = 10.0,
    store: Store = "sqlite",
    events: Events = "embedded",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Durable interactions a second, in calls of 500, and whether each acknowledged one is counted once."""
    from upwell.bench import ingest as bench

    measured("ingest", 3, json, partial(bench.run, seconds, store, events, seed))


def store(
    seconds: Seconds = 10.0,
    store: Store = "redis",
    events: Events = "kafka",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Redis commands an interaction, against reading and writing for each; how soon another server knows of a click."""
    from upwell.bench import store as bench

    measured("store", 3, json, partial(bench.run, seconds, store, events, seed))


def soak(
    minutes: Annotated[float, typer.Option(help="of half load", min=0.05)] = 10.0,
    connections: Connections = 32,
    store: Store = "sqlite",
    events: Events = "embedded",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Half load for minutes, interactions included: the slope of the server's memory, and whether anything fails."""
    from upwell.bench import soak as bench

    measured("soak", bench.STEPS, json, partial(bench.run, minutes, connections, store, events, seed))


def tfserving(
    candidates: Candidates = 200,
    connections: Connections = 32,
    seconds: Seconds = 10.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Requests a second with networks worked out over gRPC, beside the local policy; and when that server is killed."""
    check_extra("bench tfserving")
    from upwell.bench import tfserving as bench

    measured("tfserving", bench.STEPS, json, partial(bench.run, candidates, connections, seconds, seed))


def learner(
    candidates: Candidates = 200,
    connections: Connections = 32,
    seconds: Seconds = 20.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Latency at half load with the learner at work beside the server, and without, by turns."""
    if not importable("optax"):
        raise BadRequest("`upwell bench learner` needs the extra 'learn': pip install 'upwell[learn]'")
    from upwell.bench import learner as bench

    measured("learner", bench.STEPS, json, partial(bench.run, candidates, connections, seconds, seed))


def explain(
    decisions: Annotated[int, typer.Option(help="made under load, and checked", min=100)] = 100_000,
    candidates: Candidates = 100,
    connections: Connections = 32,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Whether the parts of each logged place add up to its logit."""
    from upwell.bench import explain as bench

    measured("explain", bench.STEPS, json, partial(bench.run, decisions, candidates, connections, seed))


def measured(title: str, steps: int, json: bool, run: Callable[[Path, Callable[[], None]], dict[str, Any]]) -> None:
    """Run a measurement in a folder of its own, with progress, and print what it found."""
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as scratch, progress(title, steps) as step:
        result = run(Path(scratch), step)
    rows = [[name, number(value) if isinstance(value, float) else str(value)] for name, value in result.items()]
    emit(result, json, lambda: table(title, ["figure", "value"], rows))
