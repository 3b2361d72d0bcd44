"""``upwell doctor``: which optional parts are here, and how to get the others."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec

import typer
from rich.markup import escape

from upwell.cli.common import Json, Seed, emit, table


@dataclass(frozen=True)
class Part:
    """Something optional: Python ``modules`` that must all be there, or ``programs`` of which one must be."""

    name: str
    used_for: str
    get: str
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()

    def found(self) -> str | None:
        """Where the program is, or "importable"; None if the part is not here. Nothing is started or imported."""
        if self.modules:
            return "importable" if all(map(importable, self.modules)) else None
        return next((path for path in map(shutil.which, self.programs) if path), None)


def importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is not there
        return False


def extra(name: str, used_for: str, *modules: str) -> Part:
    return Part(name, used_for, f"pip install 'upwell[{name}]'", modules)


PARTS = (
    extra("envs", "PettingZoo and Gymnasium environments", "pettingzoo", "gymnasium"),
    extra("service", "the HTTP service", "fastapi", "uvicorn", "httpx", "prometheus_client"),
    extra("redis", "state in Redis", "redis"),
    extra("kafka", "events in Kafka", "confluent_kafka"),
    extra("llm", "goals by a language model", "openai"),
    extra("console", "the operators' web page", "nicegui"),
    extra("scale", "arms and seeds across machines", "ray"),
    extra("export", "policies as SavedModel, TensorFlow Serving", "orbax.export", "tensorflow", "tensorflow_serving"),
    Part(
        "redis-server",
        "a Redis to keep state in",
        "apt-get install redis-server",
        programs=("redis-server", "valkey-server"),
    ),
    Part("java", "to run a Kafka broker", "apt-get install default-jre-headless", programs=("java",)),
    Part(
        "kafka broker",
        "event streams on this machine",
        "scripts/kafka.sh --install (needs Java 17 and, once, Maven)",
        programs=("kafka-server-start.sh", "kafka-server-start"),
    ),
    Part(
        "chromium",
        "tests of the console in a browser",
        "apt-get install chromium",
        programs=("chromium", "chromium-browser", "google-chrome", "chrome"),
    ),
)


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell doctor --json")(doctor)


def doctor(seed: Seed = 0, json: Json = False) -> None:
    """Say which optional parts are here, and how to get the others. Nothing is needed for the world and the demo."""
    rows = [(part, part.found()) for part in PARTS]
    result = {
        part.name: {
            "available": where is not None,
            "found": where,
            "used_for": part.used_for,
            "get": None if where else part.get,
        }
        for part, where in rows
    }
    lines = [[part.name, "yes" if where else "no", part.used_for, where or escape(part.get)] for part, where in rows]
    emit(
        {"parts": result},
        json,
        lambda: table("optional parts", ["part", "here", "for", "where, or how to get it"], lines),
    )
