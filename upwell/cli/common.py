"""What commands share: options, output, progress."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from upwell.errors import BadRequest

if TYPE_CHECKING:
    from upwell.world.config import WorldConfig

Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout, nothing else there")]
Seed = Annotated[int, typer.Option(help="random seed", min=0)]
WorldFile = Annotated[Path | None, typer.Option("--world", help="TOML world file; default: the reference platform")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="override a world key: section.key=value")]
Users = Annotated[int | None, typer.Option(help="users of the world", min=8)]
Contents = Annotated[int | None, typer.Option(help="live contents of the world", min=10)]

ProtocolUsers = Annotated[int | None, typer.Option("--users", help="users; default: the protocol's", min=8)]
ProtocolContents = Annotated[int | None, typer.Option("--contents", help="contents; default: the protocol's", min=10)]
ProtocolDays = Annotated[int | None, typer.Option("--days", help="days judged; default: the protocol's", min=8)]
ProtocolBurnIn = Annotated[
    int | None, typer.Option("--burn-in", help="days under raw ranking before; default: the protocol's", min=0)
]

HEADLINE = (
    "new_content_ctr", "interest_tags", "cold_start_success", "d1_retention", "d7_retention", "top100_share",
    "exposure_gini", "watch_minutes_per_dau", "gmv_per_dau", "satisfaction_mean", "ctr", "heated_share",
)  # fmt: skip
"""The metrics that a person is shown first."""

stderr = Console(stderr=True)
stdout = Console()


def emit(result: dict[str, Any], as_json: bool, human: Callable[[], None]) -> None:
    """Print a result: JSON alone on stdout, or for people."""
    if as_json:
        typer.echo(msgspec.json.encode(result).decode("utf-8"))
    else:
        human()


@contextmanager
def progress(title: str, total: int) -> Generator[Callable[[], None]]:
    """A bar on stderr with an estimate of what is left; call the yielded function once a step."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda: bar.advance(task)


def build_world(path: Path | None, overrides: list[str] | None, users: int | None, contents: int | None) -> WorldConfig:
    """The world a command asks for. Raises BadRequest."""
    from upwell.world.config import TEXTS, load_world, reference_world

    config = load_world(path) if path else reference_world()
    changes: dict[str, float | str] = {}
    for text in overrides or []:
        key, _, value = text.partition("=")
        try:
            changes[key.strip()] = value if key.strip() in TEXTS else float(value)
        except ValueError:
            raise BadRequest(f"--set {text}: give section.key=number, such as ranker.feedback=0") from None
    if users is not None:
        changes["sizes.users"] = users
    if contents is not None:
        changes["sizes.contents"] = contents
    return config.override(changes)


def sized_world(path: Path | None, overrides: list[str] | None, users: int, contents: int) -> WorldConfig:
    """``build_world`` of another size: creators follow the contents, as many of each one's as in the full world."""
    return build_world(path, [f"sizes.creators={max(contents // 10, 1)}", *(overrides or [])], users, contents)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table for people, first column left, the others right."""
    view = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        view.add_column(column, justify="right" if i else "left")
    for row in rows:
        view.add_row(*row)
    stdout.print(view)


def number(value: float) -> str:
    """Four significant digits, thousands grouped."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def toml_of(file: Path) -> dict[str, Any]:
    """What a TOML file says. Raises BadRequest."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file}: not a TOML file ({error})") from None
