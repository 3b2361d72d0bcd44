"""docs/goals.md, on reward programs: its table is the dictionaries', its examples are programs that do what it says."""

import re
from pathlib import Path

from upwell.goals.measures import CONTENT, PLATFORM, READABLE
from upwell.goals.program import parse
from upwell.goals.program_parser import DEPTH, LETTERS, NODES
from upwell.goals.program_tree import OPS

PAGE = (Path(__file__).parents[2] / "docs" / "goals.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## Reward programs") :].split("\n## ")[0]


def table() -> str:
    """Measures as the page has them."""
    rows = ["| name | of | unit | range | meaning | 含义 |", "|---|---|---|---|---|---|"]
    for name, m in {**CONTENT, **{name: PLATFORM[name] for name in PLATFORM if name in READABLE}}.items():
        unit = m.unit or "–"
        rows.append(f"| `{name}` | {m.level} | {unit} | {m.low:g} … {m.high:g} | {m.meaning} | {m.meaning_zh} |")
    return "\n".join(rows)


def test_the_table_of_measures_is_that_of_the_code():
    assert table() in SECTION


def test_the_examples_are_programs():
    examples = re.findall(r"goal\.program=(.+?)'$", SECTION, re.M)
    assert len(examples) == 2
    for text in examples:
        assert parse(text)


def test_every_operation_and_limit_is_told():
    assert all(f"`{op}`" in SECTION or f"`{op}(" in SECTION or f"`{op} " in SECTION for op in OPS)
    assert f"{LETTERS:,} letters, {NODES} parts, {DEPTH} deep" in SECTION
