"""``upwell doctor``."""

import json
import sys

from upwell.cli import main


def test_doctor_says_what_is_here_and_how_to_get_the_rest(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["upwell", "doctor", "--json"])
    main()
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert {
        "service",
        "redis",
        "kafka",
        "llm",
        "console",
        "scale",
        "export",
        "envs",
        "redis-server",
        "chromium",
    } <= set(parts)
    assert all(bool(part["found"]) == part["available"] == (part["get"] is None) for part in parts.values())
