"""What the tests of imports that are cut off share: a process that kills itself at a chosen call, and comparisons."""

import gzip
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
from log_samples import GOOD, HEADER, log_file

from upwell.logs.generate import COLUMNS

BLOCK, PART_ROWS, PARQUET_ROWS = 3_000, 90, 40
KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from upwell.logs import importer, read
from upwell.logs.plan import plan
owner, name, left, when, out, *paths = sys.argv[1:]
read.BLOCK, importer.PART_ROWS, read.PARQUET_ROWS = {sizes}
module, _, inner = owner.partition(":")
place = importlib.import_module(module)
place = getattr(place, inner) if inner else place
real, left = getattr(place, name), int(left)
def dies(*args, **options):
    global left
    left -= 1
    if not left and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    made = real(*args, **options)
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return made
setattr(place, name, dies)
importer.run(plan([Path(p) for p in paths], "auto", None), Path(out))
""".replace("{sizes}", f"{BLOCK}, {PART_ROWS}, {PARQUET_ROWS}")
SAVES, WRITES = "upwell.logs.journal:Journal", "upwell.logs.parts"


def row(user: int, video: int) -> str:
    return GOOD.replace("7,9", f"{user},{video}")


def logs(folder: Path) -> Path:
    """Logs in every form, with quotes, bad rows, and repeats near and far; users with repeats."""
    folder.mkdir()
    rows = [row(i, i % 13) for i in range(400)]
    rows[20], rows[77], rows[300] = '1,"2,20220408', '"9","9' + GOOD.removeprefix("7,9").replace(",", '",'), "x"
    rows[200], rows[390] = rows[3], rows[199]
    log_file(folder, *rows)
    more = [HEADER, *(row(i, 5) for i in range(350, 600)), row(3, 3), rows[398]]
    (folder / "log_b.csv.gz").write_bytes(gzip.compress("\n".join(more).encode()))
    whole = {name: [i if name == "user_id" else int(v) for i in range(300)] for name, v in
             zip(COLUMNS, GOOD.split(","), strict=True)}  # fmt: skip
    frame = pl.DataFrame(whole)
    pl.concat([frame, frame[:9]]).write_parquet(folder / "log_c.parquet")
    frame.with_columns(user_id=pl.col("user_id") + 10_000).write_ndjson(folder / "log_d.jsonl")
    users = [f"{i % 150},full_active,{i}" for i in range(200)]
    (folder / "user_features.csv").write_text("\n".join(["user_id,user_active_degree,fans_user_num", *users]))
    return folder


def killed(out: Path, *paths: Path, at: str, call: str, left: int, when: str) -> None:
    words = [at, call, left, when, out, *paths]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL


def contents(folder: Path) -> dict[str, object]:
    """Every file of a data set, tables as frames."""
    found = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {
        p.relative_to(folder).as_posix(): pl.read_parquet(p) if p.suffix == ".parquet" else p.read_bytes()
        for p in found
    }


def same(one: Path, other: Path) -> bool:
    left, right = contents(one), contents(other)
    return list(left) == list(right) and all(
        a.equals(right[name]) if isinstance(a, pl.DataFrame) else a == right[name] for name, a in left.items()
    )


def told(result: dict) -> dict:
    """What a result says of the import, without times, places and the cut."""
    return {
        k: v
        for k, v in result.items()
        if not k.startswith(("seconds", "rows_per", "rows_res", "dataset", "rejected_f"))
    }
