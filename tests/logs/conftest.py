"""Fixtures of the tests of logs."""

import os
import sys
from pathlib import Path

import pytest
from log_samples import ROOT

from upwell.cli import main

DATA = Path(os.environ.get("UPWELL_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def real():
    """The folder of a real data set by name; skips where it is not."""

    def folder(name: str) -> Path:
        if not (DATA / name).is_dir():
            pytest.skip(f"no real data at {DATA / name}: set UPWELL_DATA")
        return DATA / name

    return folder


@pytest.fixture
def upwell(capfd, monkeypatch):
    """Runs the command in this process: exit code, stdout, stderr."""

    def command(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["upwell", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        said = capfd.readouterr()
        return code, said.out, said.err

    return command
