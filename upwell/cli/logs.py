"""``upwell import``: from log files to a data set; ``upwell bench import``: how fast, in how much memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from upwell.cli import bench
from upwell.cli.common import Json, Seed, emit, number, progress, stderr, table
from upwell.errors import BadRequest, UpwellError

MEGABYTE = 1 << 20


def register(app: typer.Typer) -> None:
    app.command("import", epilog="Example: upwell import logs/ --format kuairand --out data/kuairand")(import_logs)
    bench.app.command("import", epilog="Example: upwell bench import --megabytes 1000 --json")(bench_import)


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
    result = read_logs(paths, out, format, map)
    emit(result, json, lambda: show(result))


def read_logs(paths: list[Path], out: Path, format: str = "auto", map: Path | None = None) -> dict[str, Any]:
    """Import with progress and warnings on stderr; the result of ``importer.run``.

    Raises UpwellError, saying how to go on, when it is interrupted after the first journal entry.
    """
    from upwell.logs import importer, staging
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

        def note(said: str) -> None:
            stderr.print(said, markup=False, soft_wrap=True)

        try:
            result = importer.run(planned, out, step, note)
        except KeyboardInterrupt:
            if not staging.unfinished(out):
                raise
            kept = staging.work_of(out)
            raise UpwellError(f"stopped: the same command goes on from here (to give it up, remove {kept})") from None
    if not result["rows_kept"]:
        stderr.print(f"warning: no row could be used: see {result['rejected_file']}", markup=False)
    for name, keys in result["keys_not_imported"].items():
        stderr.print(f"warning: {name}: keys not in its first lines, not imported: {', '.join(keys)}", markup=False)
    return result


def show(result: dict[str, Any]) -> None:
    rows = [[name, f"{count['kept']:,}", f"{count['rejected']:,}"] for name, count in result["tables"].items()]
    table(f"{result['format']} → {result['dataset']}", ["table", "rows kept", "rejected"], rows)
    if result["reasons"]:
        why = [[reason, f"{count:,}"] for reason, count in result["reasons"].items()]
        table(f"rejected: {result['rejected_file']}", ["reason", "rows"], why)
    for name, reason in result["skipped"].items():
        typer.echo(f"passed over {name}: {reason}")
    typer.echo(f"{number(result['rows_read'])} rows in {result['seconds']:.1f} s")


def bench_import(
    megabytes: Annotated[int, typer.Option(help="size of the log to make and import", min=1)] = 1_000,
    format: Annotated[str, typer.Option(help="layout of the log: kuairand")] = "kuairand",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Make a log in a temporary folder and import it in a process of its own, whose peak memory is reported."""
    if format != "kuairand":
        raise BadRequest(f"--format {format}: only kuairand logs can be made")
    with tempfile.TemporaryDirectory(prefix="upwell-bench-") as folder:
        log, out = Path(folder, "log_standard_made.csv"), Path(folder, "dataset")
        stderr.print(f"making {megabytes:,} MB of log")
        child(f"from upwell.logs.generate import write_log, Path; write_log(Path({str(log)!r}), {megabytes}, {seed})")
        words = ["upwell", "import", str(log), "--format", format, "--out", str(out), "--json"]
        output, usage, peak_mb = child(f"import sys; sys.argv = {words!r}; from upwell.cli import main; main()")
        made = log.stat().st_size / MEGABYTE
        stored = sum(part.stat().st_size for part in out.rglob("*.parquet")) / MEGABYTE
    imported = msgspec.json.decode(output, type=dict[str, Any])
    result: dict[str, Any] = {
        "format": format,
        "megabytes": made,
        "rows": imported["rows_read"],
        "rows_kept": imported["rows_kept"],
        "rows_rejected": imported["rows_rejected"],
        "seconds": imported["seconds"],
        "rows_per_second": imported["rows_per_second"],
        "megabytes_per_second": made / imported["seconds"],
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_memory_mb": peak_mb,
        "stored_megabytes": stored,
    }
    rows = [[name, number(value) if isinstance(value, float) else str(value)] for name, value in result.items()]
    emit(result, json, lambda: table("import", ["figure", "value"], rows))


def child(code: str) -> tuple[bytes, resource.struct_rusage, float]:
    """Run ``code`` in a new Python; its stdout, what it used, its peak memory in MB. Raises UpwellError if it fails.

    A new process's ``ru_maxrss`` begins with what this one holds, so on Linux it tells its own peak when it ends.
    """
    status_file = Path("/proc/self/status")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        told = Path(folder, "status")
        tell = f"open({str(told)!r}, 'w').write(open({str(status_file)!r}).read())"
        if status_file.exists():
            code = f"import atexit; atexit.register(lambda: {tell}); {code}"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise UpwellError(f"bench: a process failed with exit code {process.returncode}; what it said is above")
        peak_kb = float(usage.ru_maxrss)
        if told.exists():
            peak_kb = next(float(line.split()[1]) for line in told.read_text().splitlines() if line.startswith("VmHWM"))
        output.seek(0)
        return output.read(), usage, peak_kb / 1024
