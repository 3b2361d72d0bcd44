"""Passwords in URLs are in no text that anybody reads: settings, the configuration printed, logs, errors, metrics."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
from http_server import Served
from redis import Redis
from servers import flushed

from upwell.errors import BadRequest
from upwell.events import open_log
from upwell.service.settings import Settings, as_toml, load
from upwell.state import StoreDown, open_store

SECRET = "hush-4711"
STORES = (
    f"redis://:{SECRET}@db:6379/0", f"rediss://me:{SECRET}@db/1", f"redis://:{SECRET}/2@db", f"redis://:a@{SECRET}@db",
    f"redis://db/0?password={SECRET}", f"redis://db?db=1&PassWord={SECRET}", f"redis://:{SECRET}\nx@db",
)  # fmt: skip
EVENTS = (
    f"kafka://me:{SECRET}@broker:9092", f"kafka://broker:9092?sasl.password={SECRET}&partitions=3",
    f"kafka://b:9092?ssl.key.pem={SECRET}",
)  # fmt: skip
reach = {"store": lambda url, _: open_store(url, 0.1).get("user", ["a"]), "events": open_log}


@pytest.mark.parametrize(("name", "url"), [("store", u) for u in STORES] + [("events", u) for u in EVENTS])
def test_a_password_in_a_url_is_told_nowhere(name, url, tmp_path):
    made = load(**{name: url})
    for text in (
        repr(made), str(made), f"{made.store} {made.events!r}", made.model_dump_json(), str(made.model_dump()),
        as_toml(made),
    ):  # fmt: skip
        assert SECRET not in text
    assert f"\n# {name} = " in as_toml(made)
    assert getattr(made, f"{name}_url") == url
    assert Settings.model_validate_json(made.with_secrets()) == made  # for a process of our own
    with pytest.raises((BadRequest, StoreDown)) as told:
        reach[name](url, tmp_path)
    assert SECRET not in str(told.value)


def test_what_holds_no_password_is_shown_whole(tmp_path):
    url = f"sqlite:{tmp_path}/a@b/state?key=1.db"
    for store in ("redis://db:6379/0", "memory:", "redis://me@db/0?db=3", url.replace("?key=1", "")):
        made = load(store=store, events="kafka://b:1,c:2?partitions=2&config=/etc/kafka.properties")
        assert f'\nstore = "{store}"' in as_toml(made)
        assert '\nevents = "kafka://b:1,c:2?partitions=2&config=/etc/kafka.properties"' in as_toml(made)


def test_the_command_prints_no_password(tmp_path):
    variables = os.environ | {"UPWELL_STORE": STORES[0], "UPWELL_EVENTS": EVENTS[1]}
    for options in (["--print-config"], ["--data", str(tmp_path)], ["--store", STORES[2], "--workers", "2"]):
        command = [sys.executable, "-c", "from upwell.cli import main; main()", "serve", *options]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
        assert SECRET not in done.stdout + done.stderr
        assert done.returncode == (0 if options == ["--print-config"] else 2), done.stderr


@pytest.mark.slow
def test_a_service_with_a_password_never_tells_it(tmp_path, redis_server, caplog):
    caplog.set_level(logging.DEBUG)
    with Redis.from_url(flushed(redis_server)) as client:
        client.config_set("requirepass", SECRET)
    try:
        one = Served(tmp_path / "one", UPWELL_STORE=f"redis://:{SECRET}@{redis_server.address}/0")
        one.content("a")
        assert one.recommend("u", "a", 1).status_code == 200
        shown = [one.http.get(path).text for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/nowhere")]
        with Redis.from_url(f"redis://:{SECRET}@{redis_server.address}/0") as client:
            client.config_set("requirepass", "another")
            client.client_kill_filter(skipme=True)
        shown += [one.http.get(path).text for path in ("/v1/users/nobody", "/v1/decisions/none", "/readyz")]
        one.close()
        shown += [path.read_text(errors="replace") for path in tmp_path.rglob("*.log")]
        assert len(shown) > 8
        assert not [text for text in shown if SECRET in text]
    finally:
        with Redis.from_url(f"redis://:another@{redis_server.address}/0") as client:
            client.config_set("requirepass", "")
