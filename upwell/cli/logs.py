"""``upwell import``: from log files to a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from upwell.cli.common import Json, Seed, emit, number, progress, stderr, table

MEGABYTE = 1 << 20


def register(app: typer.Typer) -> None:
    app.command("import", epilog="Example: upwell import logs/ --format kuairand --out data/kuairand")(import_logs)


def import_logs(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH…", help="files and folders: CSV, JSON lines (gzip or not), Parquet")
    ],
    format: Annotated[str, typer.Option(help="auto, kuairand, obd or columns (your own, with --map)")] = "auto",
    out: Annotated[Path, typer.Option(help="folder of the data set; an earlier one there is replaced")] = Path(
        "out/dataset"
    ),
    map: Annotated[Path | None, typer.Option(help="TOML file that names your columns: see docs/logs.md")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Read logs into one normalised data set. Rows that cannot be used go to a file, with the reason; none is lost."""
    from upwell.logs import importer
    from upwell.logs.plan import plan

    planned = plan(paths, format, map)
    size = sum(source.path.stat().st_size for source, _ in planned.files)
    with progress("MB read", max(size // MEGABYTE, 1)) as advance:
        read = 0

        def step(count: int) -> None:
            nonlocal read
            for _ in range((read + count) // MEGABYTE - read // MEGABYTE):
                advance()
            read += count

        result = importer.run(planned, out, step)
    if not result["rows_kept"]:
        stderr.print(f"warning: no row could be used: see {result['rejected_file']}", markup=False)
    for name, keys in result["keys_not_imported"].items():
        stderr.print(f"warning: {name}: keys not in its first lines, not imported: {', '.join(keys)}", markup=False)
    emit(result, json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    rows = [[name, f"{count['kept']:,}", f"{count['rejected']:,}"] for name, count in result["tables"].items()]
    table(f"{result['format']} → {result['dataset']}", ["table", "rows kept", "rejected"], rows)
    if result["reasons"]:
        why = [[reason, f"{count:,}"] for reason, count in result["reasons"].items()]
        table(f"rejected: {result['rejected_file']}", ["reason", "rows"], why)
    for name, reason in result["skipped"].items():
        typer.echo(f"passed over {name}: {reason}")
    typer.echo(f"{number(result['rows_read'])} rows in {result['seconds']:.1f} s")
