"""Held-out worlds are the reference world with what their headers say and nothing else, and nobody tunes on them."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from upwell.cli import app
from upwell.errors import BadRequest
from upwell.world.config import flatten, load_world

WORLDS = Path(__file__).parent.parent / "worlds"
HELD_OUT = sorted((WORLDS / "heldout").glob("*.toml"))


@pytest.mark.parametrize("path", HELD_OUT, ids=lambda path: path.stem)
def test_the_header_says_every_change(path):
    here, reference = (flatten(load_world(p)) for p in (path, WORLDS / "reference.toml"))
    header = " ".join(line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    said = {key: (float(old), float(new)) for key, old, new in re.findall(r"(\w+\.\w+) ([\d.]+) -> ([\d.]*\d)", header)}
    changed = {key: (reference[key], here[key]) for key in here if here[key] != reference[key]}
    assert changed.keys() == said.keys()
    for key, values in changed.items():
        assert values == pytest.approx(said[key], rel=1e-5)
    assert load_world(path).name == path.stem


def test_there_are_five():
    assert [path.stem for path in HELD_OUT] == ["arrivals", "cheats", "seasons", "slopes", "tags"]


def test_nobody_tunes_on_them():
    result = CliRunner().invoke(app, ["tune", "pid", "--world", str(HELD_OUT[0])])
    assert isinstance(result.exception, BadRequest)
    assert "held-out" in str(result.exception)
