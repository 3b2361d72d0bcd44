"""Nothing that operators meet is undocumented: settings, routes, metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from upwell.service import metrics, openapi
from upwell.service.app import create
from upwell.service.settings import Settings, as_toml

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = "".join(path.read_text() for name in ("operations.md", "integrate.md") if (path := DOCS / name).exists())


@pytest.mark.parametrize("name", Settings.model_fields)
def test_settings(name):
    assert Settings.model_fields[name].description
    assert f"| `{name}` |" in PAGES


def test_routes():
    document = openapi.document(create(Settings(), None))
    missing = [
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if f"{method.upper()} {path}`" not in PAGES
    ]
    assert missing == []


@pytest.mark.parametrize(
    "name", [*metrics.GAUGES, "upwell_requests_total", "upwell_request_seconds", "upwell_failures"]
)
def test_metrics(name):
    assert f"| `{name}` |" in PAGES


def test_secrets_are_not_printed():
    shown = as_toml(Settings(client_token="hush-client", operator_token="hush-operator"))
    assert "hush" not in shown
    assert "hush" not in repr(Settings(client_token="hush-client", operator_token="hush-operator"))
