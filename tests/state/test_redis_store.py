"""What is Redis' own: lost connections, restarts, passwords, the number of commands."""

import signal
import socket
import threading
import time
import traceback

import pytest
from redis import Redis
from servers import Server, flushed, need

from upwell.errors import BadRequest
from upwell.state import EVERYTHING, Batch, StoreDown, open_store

SECRET = "s3cret/#word"
WRITTEN = "s3cret%2F%23word"


@pytest.fixture
def url(redis_server):
    return flushed(redis_server)


@pytest.fixture
def server(tmp_path):
    """One that may be killed."""
    need("redis")
    it = Server("redis", tmp_path / "redis")
    yield it
    it.kill()


def test_a_batch_is_one_command(url):
    store = open_store(url)
    batch = Batch(offsets={"p": (0, 1)})
    for i in range(100):
        batch.put("user", f"u{i}", b"x", owner="o")
        batch.add("content", f"c{i}", {"n": 1})
        batch.append("history", f"u{i}", b"x")
    with Redis.from_url(url) as client:
        client.script_flush()  # as on a server just started
    store.write(Batch())
    assert store.commands == {"EVALSHA": 2, "SCRIPT LOAD": 1}  # a new server does not know the script yet
    store.commands.clear()
    store.write(batch)
    store.get("user", [f"u{i}" for i in range(100)])
    store.counters("content", [f"c{i}" for i in range(100)])
    store.counters("content", [f"c{i}" for i in range(100)])
    assert store.commands == {"EVALSHA": 4, "SCRIPT LOAD": 1, "MGET": 1}
    store.close()


def test_keys_start_with_the_prefix_and_prefixes_do_not_meet(url):
    one, two = open_store(url), open_store(url, prefix="upwell:{two}.")
    watcher = two.watch(["user"])
    batch = Batch(offsets={"p": (0, 1)}, ttl_s={"user": 60})
    batch.put("user", "u", b"one", owner="u")
    batch.put("content", "c", b"one")
    one.write(batch)
    one.acquire("l", "o", 60)
    with Redis.from_url(url) as client:
        keys = {key.decode() for key in client.scan_iter("*")}
        assert 0 < client.ttl("upwell:owned:u") <= 60
    ours = ("user:r:u", "content:r:c", "ids:content", "offsets", "owned:u", "lease:l", "tokens")
    assert keys == {f"upwell:{key}" for key in ours}
    assert two.get("user", ["u"]) == [None]
    assert two.offsets() == {}
    assert two.scan("user").items == []
    assert watcher.poll(0.1) == set()
    watcher.close()
    one.close()
    two.close()
    with pytest.raises(BadRequest):
        open_store(url, prefix="star*")


def owned(id, ttl_s=None):
    batch = Batch(ttl_s={"decision": ttl_s} if ttl_s else {})
    batch.put("decision", id, b"", owner="u")
    return batch


def test_what_a_user_owns_is_forgotten_as_it_expires(url):
    store = open_store(url)
    for i in range(5):
        store.write(owned(f"d{i}", 0.05))
        time.sleep(0.06)
    with Redis.from_url(url) as client:
        assert client.zcard("upwell:owned:u") <= 1
        store.write(owned("long", 60))
        store.write(owned("short", 30))
        assert client.ttl("upwell:owned:u") > 30
        store.write(owned("ever"))
        assert client.ttl("upwell:owned:u") == -1
    assert store.erase("u") == 3
    store.close()


def test_the_index_of_a_kind_forgets_what_expired(url):
    store = open_store(url)
    store.write(Batch(puts={"member": {f"m{i}": b"" for i in range(9)}}, ttl_s={"member": 0.05}))
    store.write(Batch(adds={"member": {"counted": {"n": 1}}}))
    time.sleep(0.06)
    page = store.scan("member", "", 4)
    assert (page.items, page.after) == ([], "m2")
    assert store.scan("member", "m2") == ([], None)
    with Redis.from_url(url) as client:
        assert client.zrange("upwell:ids:member", 0, -1) == [b"counted"]
    store.close()


def test_a_restart_is_noticed_and_survived(server):
    url = f"redis://{server.address}/0"
    store, other = open_store(url, timeout_s=2), open_store(url, timeout_s=2)
    watcher = store.watch(["user"])
    store.write(Batch(puts={"user": {"u": b"1"}}, offsets={"p": (0, 1)}))
    lease = store.acquire("l", "me", 600)
    server.kill()
    assert not store.healthy()
    for attempt in (
        lambda: store.get("user", ["u"]),
        lambda: store.write(Batch(puts={"user": {"u": b"2"}})),
        lambda: watcher.poll(0.1),
        lambda: store.watch(["user"]),
        lambda: store.acquire("l", "me", 1),
    ):
        with pytest.raises(StoreDown):
            attempt()
    server.start()
    assert watcher.poll(1) is EVERYTHING
    assert watcher.poll(0) == set()
    assert store.get("user", ["u"]) == [b"1"]
    assert store.offsets() == {"p": 1}
    store.write(Batch(puts={"user": {"mine": b""}}, fence=lease))  # the lease outlived it, the scripts did not
    other.write(Batch(puts={"user": {"v": b""}}))
    assert watcher.poll(2) == {("user", "v")}
    watcher.close()
    store.close()
    other.close()


def test_a_write_is_sent_once(server):
    """Nobody but the caller may repeat it: a server that was only slow would count twice."""
    store = open_store(f"redis://{server.address}/0", timeout_s=0.5)
    store.write(Batch())  # loads the script
    wake = threading.Timer(0.75, server.process.send_signal, [signal.SIGCONT])
    server.process.send_signal(signal.SIGSTOP)
    wake.start()
    with pytest.raises(StoreDown):
        store.write(Batch(adds={"content": {"c": {"n": 1}}}))
    wake.join()
    deadline = time.monotonic() + 10
    while store.counters("content", ["c"]) == [{}] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store.counters("content", ["c"]) == [{"n": 1}]
    store.close()


def test_a_watcher_that_is_cut_off_forgets_everything(url):
    store = open_store(url)
    watcher = store.watch(["user"])
    with Redis.from_url(url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
        assert watcher.poll(0.5) is EVERYTHING
        assert watcher.poll(0) == set()
        client.flushall()
        assert watcher.poll(0.5) is EVERYTHING
    watcher.close()
    store.close()


def test_silence_is_looked_into(server, monkeypatch):
    monkeypatch.setattr("upwell.state.redis_watch.SILENCE_S", 0.05)
    url = f"redis://{server.address}/0"
    store, other = open_store(url, timeout_s=1), open_store(url)
    watcher = store.watch(["user"])
    assert watcher.poll(0.3) == set()  # asked several times, answered
    other.write(Batch(puts={"user": {"u": b""}}))
    assert watcher.poll(5) == {("user", "u")}
    server.process.send_signal(signal.SIGSTOP)  # as a dead network: the connection stays, no answer comes
    begun = time.monotonic()
    with pytest.raises(StoreDown):
        watcher.poll(0.1)
    assert time.monotonic() - begun < 6
    server.process.send_signal(signal.SIGCONT)
    assert watcher.poll(1) is EVERYTHING
    watcher.close()
    store.close()
    other.close()


@pytest.mark.parametrize("silent", [False, True])
def test_an_unreachable_server_is_down_in_time(silent):
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if silent:
            port.listen()
        store = open_store(f"redis://:{WRITTEN}@127.0.0.1:{port.getsockname()[1]}", timeout_s=0.3)
        for attempt in (
            lambda: store.get("user", ["u"]),
            lambda: store.write(Batch()),
            lambda: store.watch(["user"]),
            store.offsets,
            store.stats,
        ):
            begun = time.monotonic()
            with pytest.raises(StoreDown) as down:
                attempt()
            assert time.monotonic() - begun < 3
            assert hidden("".join(traceback.format_exception(down.value)), repr(store))
        assert not store.healthy()
        store.close()


def hidden(*texts):
    return all(part not in text for text in texts for part in (SECRET, WRITTEN, "s3cret"))


def test_passwords_work_and_are_never_shown(tmp_path):
    need("redis")
    server = Server("redis", tmp_path / "redis", UPWELL_REDIS_PASSWORD=SECRET)
    try:
        with_it = open_store(f"redis://:{WRITTEN}@{server.address}")
        watcher = with_it.watch(["user"])
        with_it.write(Batch())
        assert hidden(repr(with_it), repr(with_it._link), str(vars(with_it)))
        watcher.close()
        with_it.close()
        for url in (f"redis://:s3cret-but-wrong@{server.address}", f"redis://{server.address}"):
            store = open_store(url)
            with pytest.raises(StoreDown) as down:
                store.write(Batch())
            assert hidden("".join(traceback.format_exception(down.value)))
            store.close()
    finally:
        server.stop()
    assert hidden((server.data / "redis.log").read_text())


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory:x",
        "sqlite:",
        "redis:localhost",
        "postgres://u:s3cret@host/db",
        "s3cret",
        "redis://:s3cret#x@host",
        "redis://:1/s3cret@host",
        "redis://:12#s3cret@host",
        "redis://:12?s3cret@host",
        "redis://u:s3cret@host:port",
        "redis://u:s3cret@host:99999",
        "redis://u:s3cret@host?nonsense=1",
        "redis://u:s3cret@host?db=s3cret",
    ],
)
def test_other_urls_are_refused_with_what_to_do(url):
    with pytest.raises(BadRequest, match=r"redis://") as refused:
        open_store(url)
    assert hidden("".join(traceback.format_exception(refused.value)))
