"""The documented schema."""

from log_samples import ROOT

from upwell.logs.schema import TABLES


def test_the_documented_schema_is_the_schema():
    page = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    for table in ("interactions", "contents", "users"):
        for column in TABLES[table]:
            assert f"| `{column.name}` | {column.kind} | {column.unit} | {column.meaning} |" in page
