"""``upwell export``: the learned policy and the behaviour encoder as models that other programs can serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Seed, emit, number, progress, stdout, table
from upwell.cli.doctor import importable
from upwell.errors import BadRequest

MODULES = ("equinox", "orbax.export", "tensorflow", "tensorflow_serving")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell export --format savedmodel --policy marl --out out/models --json")(export)


def export(
    format: Annotated[str, typer.Option(help="savedmodel")] = "savedmodel",
    policy: Annotated[str, typer.Option(help="learned policy: one that is shipped, or a file")] = "marl",
    encoder: Annotated[
        Path | None, typer.Option(help="file of a trained encoder (agents.kept); without one it is exported untrained")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the models; each export adds a version to it")] = Path(
        "out/models"
    ),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write versioned SavedModels for TensorFlow Serving, each held against Upwell's own on 10,000 random inputs."""
    if format != "savedmodel":
        raise BadRequest(f"--format {format}: this version of Upwell writes savedmodel")
    check_extra("export")
    import jax

    from upwell.agents.encoder import Encoder
    from upwell.agents.encoder_parts import Shape
    from upwell.agents.kept import load_encoder
    from upwell.agents.network import load_policy, path_of, version_of
    from upwell.learn.signatures import of_encoder, of_policy

    model = Encoder(Shape(), jax.random.key(seed)) if encoder is None else load_encoder(encoder)
    path = path_of(policy)
    models = [*of_policy(load_policy(path)), of_encoder(model)]
    with progress("models", len(models)) as step:
        from upwell.learn.export import export as write

        result = write(models, out, seed, step)
    result |= {"policy": version_of(path), "encoder": None if encoder is None else str(encoder)}
    emit(result, json, lambda: show(result))


def check_extra(command: str) -> None:
    """Raises BadRequest where the extra ``export`` is not here."""
    for module in MODULES:
        if not importable(module):
            raise BadRequest(f"`upwell {command}` needs {module}: pip install 'upwell[export]'")


def show(result: dict[str, Any]) -> None:
    rows = [
        [f"{name} {signature}", ", ".join(told["inputs"]), ", ".join(told["outputs"]), number(told["max_difference"])]
        for name, model in result["models"].items()
        for signature, told in model["signatures"].items()
    ]
    title = f"version {result['version']}: largest differences over {result['inputs']:,} inputs"
    table(title, ["signature", "inputs", "outputs", "difference"], rows)
    if result["encoder"] is None:
        stdout.print("the encoder is untrained: give --encoder FILE for one that is")
    stdout.print(f"serve them with {result['config']}: see docs/deploy.md")
