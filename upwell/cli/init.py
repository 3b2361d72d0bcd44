"""``upwell init``: from log files to a ready folder: mapping, data set, world, settings."""

from __future__ import annotations

import hashlib
import json as plain_json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from upwell import __version__, files
from upwell.cli.common import Json, Seed, emit, number, progress, stderr, table
from upwell.cli.logs import read_logs
from upwell.errors import BadRequest, UpwellError

if TYPE_CHECKING:
    from upwell.logs.guess import Sample
    from upwell.world.config import WorldConfig

MAPPING, DATASET, MARGINALS, WORLD, CONFIG = "mapping.toml", "dataset", "marginals.json", "world.toml", "upwell.toml"
BOOK, JOURNAL = "init.json", "world.journal.jsonl"
ROWS = 2_000
"""Of a file, by which its columns are guessed."""
USERS, TICKS, DAYS, ROUNDS, SEEDS = 1_000, 48, 28, 4, 2
"""The budget of the fit: the world's size, half-hour ticks, days a world, steps after a first look, seeds judged on."""
MISSED = 0.2
"""Relative error of a fitted figure that is told of."""
FEW, MANY = 1_000, 10_000
"""Contents of the world where a log shows fewer than FEW, whose top 1% says nothing, and else: their top 1% are 100."""


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: upwell init logs/ --out out/mine")(init)


def init(
    logs: Annotated[
        list[Path], typer.Argument(metavar="LOGS…", help="files and folders: CSV, JSON lines (gzip or not), Parquet")
    ],
    out: Annotated[Path, typer.Option(help="folder for all of it")] = Path("out/mine"),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """From log files to a ready folder: mapping, data set, a simulated platform that takes after them, settings.

    The same command goes on where it was stopped, and makes anew what follows from what you have corrected. Files that
    you have edited are never overwritten.
    """
    out.mkdir(parents=True, exist_ok=True)
    book = open_book(out)
    format = recognise(logs, book)
    imported = bring_in(logs, format, book)
    result: dict[str, Any] = {"folder": str(out), "format": format, "dataset": str(out / DATASET), **imported}
    result |= fit_world(book, format, seed) | settle(book)
    result |= {
        "mapping": str(out / MAPPING) if format == "columns" else None,
        "policy": "rules",
        "kept": sorted(book.kept),
        "next": commands(out),
    }
    emit(result, json, lambda: show(result))


class Book(msgspec.Struct):
    """``init.json``: what is done. ``written``: hash of each file as we wrote it; another one is its owner's work."""

    folder: Path
    written: dict[str, str] = {}
    inputs: str = ""
    """Fingerprint of what the data set was made of."""
    imported: dict[str, Any] = {}
    fit: str = ""
    """Fingerprint of what the world was fitted to."""
    fitted: dict[str, Any] = {}
    kept: set[str] = set()
    """Edited files that were left as they are."""

    def edited(self, name: str) -> bool:
        path = self.folder / name
        return path.exists() and digest(path.read_bytes()) != self.written.get(name)

    def put(self, name: str, text: str) -> None:
        """Write a file, unless its owner has edited it."""
        if self.edited(name):
            self.kept.add(name)
            return
        files.put(self.folder / name, text.encode())
        self.written[name] = digest(text.encode())
        self.save()

    def save(self) -> None:
        self_told = {name: getattr(self, name) for name in ("written", "inputs", "imported", "fit", "fitted")}
        files.put(self.folder / BOOK, msgspec.json.format(msgspec.json.encode(self_told)))


def open_book(folder: Path) -> Book:
    try:
        told = msgspec.json.decode((folder / BOOK).read_bytes(), type=dict[str, Any])
        return msgspec.convert({**told, "folder": str(folder)}, Book, dec_hook=lambda kind, value: kind(value))
    except FileNotFoundError:
        return Book(folder)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadRequest(f"{folder / BOOK}: not as `upwell init` wrote it ({error}): remove it") from None


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def recognise(logs: list[Path], book: Book) -> str:
    """The format; for own columns, a mapping is there afterwards. Raises BadRequest where one must be completed."""
    from upwell.logs.guess import guess
    from upwell.logs.plan import detect, gather, listed

    if book.edited(MAPPING):
        book.kept.add(MAPPING)
        return "columns"
    there = gather(logs)
    try:
        return detect(there)
    except BadRequest:  # neither of the known ones; a file that cannot be read is told of by the next line
        samples = [sample(path, name) for path, name, _ in there]
    made = guess(samples)
    book.put(MAPPING, made.text)
    if made.lacks:
        file = made.lacks[0][0]
        columns = next(s.frame.columns for s in samples if s.name == file)
        names = " and ".join(ours for _, ours in made.lacks)
        raise BadRequest(
            f"{file}: no column could be guessed for {names} (it has {listed(tuple(columns))}): "
            f"complete {book.folder / MAPPING}, where it stands commented out, and run the same command again"
        )
    return "columns"


def sample(path: Path, name: str) -> Sample:
    """The first rows of a file, split by what splits its header best."""
    from upwell.logs.guess import Sample
    from upwell.logs.read import Place, blocks
    from upwell.logs.source import probe

    source = probe(path, name)
    if source.form == "csv" and len(source.columns) == 1:
        source = max((probe(path, name, sign) for sign in ",\t;|"), key=lambda s: len(s.columns))
    first = next(blocks(source, Place(), lambda read: None), None)
    if first is None:
        raise BadRequest(f"{path}: has columns but no rows")
    return Sample(name, first.rows().frame.head(ROWS), source.separator)


def bring_in(logs: list[Path], format: str, book: Book) -> dict[str, Any]:
    """Import, unless the data set is of the same files by the same mapping."""
    from upwell.logs.journal import begin
    from upwell.logs.plan import plan
    from upwell.logs.staging import is_ours

    folder, mapping = book.folder / DATASET, book.folder / MAPPING if format == "columns" else None
    now = begin(plan(logs, format, mapping))
    inputs = digest(msgspec.json.encode((now.stamp, now.inputs)))
    if book.inputs != inputs or not is_ours(folder):
        result = read_logs(logs, folder, format, mapping)
        names = ("rows_read", "rows_kept", "rows_rejected", "rejected_file", "reasons", "tables")
        book.inputs, book.imported = inputs, {name: result[name] for name in names}
        book.save()
    if not book.imported["rows_kept"]:
        how = f"correct {mapping} and run again" if mapping else "is the log whole?"
        raise BadRequest(f"no row could be used: see {book.imported['rejected_file']}: {how}")
    return book.imported


def fit_world(book: Book, format: str, seed: int) -> dict[str, Any]:
    """Measure the data set and fit a world to it, unless the world there is fitted to the same, or edited."""
    from upwell.logs import calibrate
    from upwell.logs.targets import direct, read_marginals, searched
    from upwell.world.config import reference_world, to_toml

    told = read_marginals(book.folder / DATASET)
    book.put(MARGINALS, plain_json.dumps(told, indent=1) + "\n")
    few = told.get("contents_shown_standard", 0.0) < FEW
    wanted = searched(told) if any(told.get(f"ctr_{name}") for name in ("standard", "random")) else {}
    if few:
        wanted.pop("top100_share", None)
    keys = direct(told)
    if format == "obd":
        keys.pop("activity.visits_spread", None)  # its users are segments, not persons
    contents = FEW if few else MANY
    sizes = {"users": USERS, "contents": contents, "creators": contents // 10, "segments": 0, "ticks_per_day": TICKS}
    start = reference_world().override(keys | {f"sizes.{name}": float(size) for name, size in sizes.items()})
    start = replace(start, name="fitted")
    by = [(name, target, calibrate.IDENTIFIED[name]) for name, target in wanted.items()]
    fit = digest(f"{__version__}{to_toml(start)}{by}{DAYS}/{ROUNDS}/{SEEDS}/{seed}".encode())
    if book.edited(WORLD) or (book.fit == fit and (book.folder / WORLD).exists()):
        if book.edited(WORLD):
            book.kept.add(WORLD)
        return book.fitted
    config, metrics = start, dict[str, float]()
    journal = book.folder / JOURNAL
    if wanted:
        most = calibrate.lives(wanted, ROUNDS, SEEDS)
        stderr.print(
            f"fitting {', '.join(calibrate.IDENTIFIED[n][0] for n in wanted)}: at most {most} worlds of {DAYS} days"
        )
        try:
            with progress("worlds lived (the first one compiles)", most) as step:
                config, metrics = calibrate.approach(
                    start, wanted, rounds=ROUNDS, seeds=SEEDS, days=DAYS, seed=seed, journal=journal, step=step
                )
        except KeyboardInterrupt:
            raise UpwellError("stopped: the same command goes on from here") from None
    rows = {
        name: {"target": t.value, "fitted": metrics[name], "relative_error": t.error(metrics[name])}
        for name, t in wanted.items()
    }
    book.fit, book.fitted = fit, {"world": str(book.folder / WORLD), "targets": rows, "direct": keys}
    book.put(WORLD, to_toml(config, header(config, rows, list(keys))))
    journal.unlink(missing_ok=True)
    return book.fitted


def header(config: WorldConfig, rows: dict[str, Any], direct: list[str]) -> str:
    """What the world's file says of itself."""
    from upwell.logs.calibrate import IDENTIFIED
    from upwell.world.config import flatten

    flat = flatten(config)
    lines = [
        f"Made by `upwell init`: a quick fit, {DAYS} days of raw ranking; `upwell calibrate` fits more, for hours.",
        *(
            f"{key} = {flat[key]:.4g}: {name} is {row['fitted']:.4g}, in the log {row['target']:.4g}"
            for name, row in rows.items()
            for key in [IDENTIFIED[name][0]]
        ),
        f"From the log directly: {', '.join(direct) or 'nothing'}.",
        "All else is the reference platform's.",
    ]
    return "\n".join(lines)


def settle(book: Book) -> dict[str, Any]:
    """Write the service's settings, and have the service read them."""
    from upwell.logs.targets import read_marginals
    from upwell.logs.traffic import traffic
    from upwell.service.settings import Settings, load

    folder = book.folder / DATASET
    found = traffic(folder, read_marginals(folder))
    lines = [
        "# Settings of `upwell serve --config`, derived from the log by `upwell init`. If it holds a sample of the",
        "# traffic only, correct daily_impressions. All others: `upwell serve --print-config --config` with this file.",
        "# Tokens belong into UPWELL_CLIENT_TOKEN and UPWELL_OPERATOR_TOKEN. Rules decide: no learned policy yet.",
    ]
    values: dict[str, Any] = {"data": str((book.folder / "state").resolve())}
    values |= {name: float(f"{value:.4g}") for name, value in found.items()}
    for name, value in values.items():
        told = plain_json.dumps(value, ensure_ascii=False)
        lines.append(f"{name} = {told}  # {Settings.model_fields[name].description}")
    book.put(CONFIG, "\n".join(lines) + "\n")
    load(book.folder / CONFIG)
    return {"config": str(book.folder / CONFIG), "settings": values}


def commands(folder: Path) -> dict[str, str]:
    """What to do next."""
    config, world, report = (shlex.quote(str(folder / name)) for name in (CONFIG, WORLD, "experiment"))
    return {
        "serve": f"upwell serve --config {config}",
        "simulate": f"upwell simulate --world {world} --arm rules --burn-in 56 --days 14",
        "report": f"upwell experiment --world {world} --arms raw,itemcf,rules --users {USERS} --seeds 2 --out {report}",
    }


def show(result: dict[str, Any]) -> None:
    typer.echo(f"{result['folder']}: {result['rows_kept']:,} rows kept, {result['rows_rejected']:,} rejected")
    if result["rejected_file"]:
        typer.echo(f"rejected rows and why: {result['rejected_file']}")
    if result["mapping"]:
        typer.echo(f"columns as in {result['mapping']}: look it over, correct it, and run the same command again")
    rows = [
        [name, number(row["target"]), number(row["fitted"]), f"{row['relative_error']:+.1%}"]
        for name, row in result.get("targets", {}).items()
    ]
    if rows:
        table("fitted world", ["figure", "log", "world", "error"], rows)
        missed = [n for n, row in result["targets"].items() if abs(row["relative_error"]) > MISSED]
        if missed:
            typer.echo(f"missed: {', '.join(missed)}: take what this world shows for what it is")
    else:
        typer.echo(f"{result.get('world', WORLD)}: no impressions with clicks to fit to; set what the log tells")
    table(CONFIG, ["setting", "value"], [[k, str(v)] for k, v in result["settings"].items()])
    if result["kept"]:
        typer.echo(f"left as you edited them: {', '.join(result['kept'])}")
    typer.echo("Decides: rules (until there is a learned policy). Next:")
    typer.echo(f'  {result["next"]["serve"]}\n    in shadow: requests with "shadow": true change nothing for users')
    typer.echo(f"  {result['next']['simulate']}\n  {result['next']['report']}")
