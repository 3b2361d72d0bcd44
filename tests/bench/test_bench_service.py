"""Each benchmark of the service, for a moment: that it runs and says what it should. Figures are not judged here."""

from __future__ import annotations

import json

import pytest
from servers import need
from typer.testing import CliRunner

from upwell.cli import app

pytestmark = pytest.mark.slow


def figures(*arguments):
    ran = CliRunner().invoke(app, ["bench", *arguments, "--seconds", "2", "--json"], catch_exceptions=False)
    assert ran.exit_code == 0
    return json.loads(ran.stdout)


def test_serve():
    found = figures("serve")
    assert found["decisions_per_second"] > 0
    assert 0 < found["ratio_to_empty"] < 1
    assert found["p50_ms"] <= found["p99_ms"]
    assert found["heated_share"] <= 0.2


def test_ingest():
    found = figures("ingest")
    assert found["accepted"] > 0
    assert (found["rejected"], found["lost"], found["doubled"]) == (0, 0, 0)


def test_store():
    need("redis")
    need("kafka")
    found = figures("store")
    assert found["baseline_per_interaction"] == pytest.approx(2.0)
    assert (found["lost"], found["doubled"]) == (0, 0)
    assert found["staleness_probes"] > 0


def test_tfserving():
    found = figures("tfserving")
    assert min(found["local_per_second"], found["grpc_per_second"]) > 0
    assert found["answered_share"] > 0
    assert found["killed_requests"] > 0
    assert found["killed_failed"] == 0


def test_learner():
    found = figures("learner")
    assert found["p99_ratio"] > 0
    assert found["learner_cpu_share"] > 0
    assert found["updates"] > 0


def test_explain():
    ran = CliRunner().invoke(app, ["bench", "explain", "--decisions", "2000", "--json"], catch_exceptions=False)
    assert ran.exit_code == 0
    found = json.loads(ran.stdout)
    assert found["decisions"] >= 2_000
    assert found["places"] > 10_000
    assert found["parts_a_place"] > 2
    assert found["largest_error"] == 0.0
    assert len(found["places_by_kind"]) == 3  # of the order, explored and heated ones


def test_soak():
    ran = CliRunner().invoke(app, ["bench", "soak", "--minutes", "0.1", "--json"], catch_exceptions=False)
    assert ran.exit_code == 0
    found = json.loads(ran.stdout)
    assert found["slates"] > 0
    assert found["events"] >= 10 * (found["slates"] - 1)
    assert (found["failed"], found["rejected_events"]) == (0, 0)
    assert 0 < found["memory_first_mib"] < found["memory_last_mib"] * 2
