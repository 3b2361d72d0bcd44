"""What the tests of logs share: made rows and files, and ways to bring them in and look at what came out."""

import gzip
import json
from pathlib import Path

import polars as pl

from upwell.logs import importer
from upwell.logs.generate import BAD, COLUMNS
from upwell.logs.plan import plan

ROOT = Path(__file__).parent.parent.parent
HEADER = ",".join(COLUMNS)
GOOD = "7,9,20220408,1200,1649390400000,1,0,0,0,0,0,1,5000,10000,0,0,0,0,1"
MAP = """
zone = "Asia/Shanghai"
licence = "ours"

[interactions]
files = ["events*"]
missing = ["", "NULL"]

[interactions.columns]
user_id = "uid"
content_id = "item"
ts = {column = "when", unit = "s"}
clicked = "opened"
dwell_s = {column = "play_ms", scale = 0.001}
exposure = {constant = "standard"}

[contents]
files = ["items*"]
separator = "\\t"

[contents.columns]
content_id = "item"
title = "title"
tags = {column = "tags", separator = "|"}
published_at = {column = "born", format = "%Y/%m/%d %H:%M"}
"""


def bring_in(paths, out, format="auto", map_file=None):
    return importer.run(plan([Path(p) for p in paths], format, map_file), Path(out))


def rejects(out) -> list[dict]:
    return [json.loads(line) for line in (Path(out) / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]


def log_file(folder, *rows: str, header: str = HEADER) -> Path:
    path = Path(folder) / "log_standard_made.csv"
    path.write_bytes("\n".join([header, *rows, ""]).encode("utf-8", "surrogateescape"))
    return path


def good_rows(log: Path) -> pl.DataFrame:
    """The rows of a made log without those that are bad on purpose."""
    return pl.read_csv(b"".join(line for line in log.read_bytes().splitlines(keepends=True) if line[:-1] not in BAD))


def damaged(folder: Path, name: str) -> Path:
    whole = (HEADER + "\n" + "\n".join(GOOD.replace("7,9", f"{i * 7919},9") for i in range(5_000))).encode()
    contents = {
        "empty.csv": b"",
        "blank.csv": b"\n\n",
        "garbage.csv": bytes(range(256)) * 8,
        "broken.csv.gz": gzip.compress(whole)[:-3_000],
        "notgzip.csv.gz": b"\x1f\x8b" + b"x" * 100,
        "broken.parquet": b"PAR1" + b"x" * 100,
        "archive.csv": b"PK\x03\x04" + b"x" * 100,
        "utf16.csv": HEADER.encode("utf-16"),
        "other.csv": b"a,b,c\n1,2,3\n",
        "header.csv": HEADER.encode() + b"\n",
        "twice.csv": b"user_id,user_id\n1,2\n",
        "list.jsonl": b"{broken\n",
    }
    path = folder / name
    if name in contents:
        path.write_bytes(contents[name])
    return path
