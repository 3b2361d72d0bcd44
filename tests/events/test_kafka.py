"""What only the log in Kafka has: a broker that goes away, one that forgets, and secrets."""

import logging
import time

import pytest
from event_logs import PATIENCE_S, SMALL, drain, records, recovered

from upwell.errors import BadRequest
from upwell.events import CONTROL, DECISIONS, INTERACTIONS, OffsetLost, forwarder, open_log
from upwell.events.broker import Broker

pytestmark = pytest.mark.slow


def eventually(what) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def collect(consumer, wanted: set[int]) -> list[int]:
    """What came until all wanted had, or time was up."""
    found, until = [], time.monotonic() + PATIENCE_S
    while not wanted <= set(found) and time.monotonic() < until:
        found += [int(entry.value) for entry in consumer.poll(500, 0.2)]
    return found


def test_a_broker_that_is_killed_loses_and_blocks_nothing(kafka_logs, kafka_server):
    log = kafka_logs.open()
    consumer, longest, sent = kafka_logs.consumer(log), 0.0, 0
    for phase in range(3):
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            began = time.monotonic()
            log.append(INTERACTIONS if sent % 3 else DECISIONS, records(20, sent))
            longest, sent = max(longest, time.monotonic() - began), sent + 20
            consumer.poll(1, 0)
            time.sleep(0.01)
        if phase == 0:
            kafka_server.kill()
        # It is away throughout the second phase.
        if phase == 1:
            kafka_server.start()
    consumer.close()
    found = collect(kafka_logs.consumer(log, group="after"), set(range(sent)))
    assert sorted(found) == list(range(sent))  # once each: the producer is idempotent
    assert longest < 2.0


def test_a_log_opens_without_a_broker_and_catches_up_when_there_is_one(kafka_logs, kafka_server, monkeypatch):
    monkeypatch.setattr(forwarder, "STALLED_S", 0.5)
    kafka_server.kill()
    try:
        log = kafka_logs.open()
        log.append(INTERACTIONS, records(100))
        eventually(lambda: not log.healthy().delivering and log.healthy().error)
        assert log.healthy().writable
        assert log.healthy().undelivered_bytes > 0
    finally:
        kafka_server.start()
    consumer = kafka_logs.consumer(log)
    assert sorted(int(entry.value) for entry in drain(consumer, 100)) == list(range(100))
    eventually(lambda: log.healthy().delivering and not log.healthy().undelivered_bytes)


def test_a_restart_goes_on_where_forwarding_was(kafka_logs):
    log = kafka_logs.open()
    log.append(INTERACTIONS, records(50))
    log.close()
    log = kafka_logs.open()
    log.append(INTERACTIONS, records(50, 50))
    assert sorted(int(entry.value) for entry in drain(kafka_logs.consumer(log), 100)) == list(range(100))


def test_what_a_dead_process_has_not_sent_is_sent_by_another(kafka_logs, tmp_path, monkeypatch):
    monkeypatch.setattr(forwarder, "ORPHANS_S", 0.1)
    local = open_log("embedded:", kafka_logs.directory)  # as if killed before it could send
    keeper = open_log("embedded:", kafka_logs.directory)
    keeper.append(INTERACTIONS, records(30))
    keeper.close()
    log = kafka_logs.open()
    orphan = log.partition  # the slot that is free again
    other = kafka_logs.open()
    assert sorted(int(entry.value) for entry in drain(kafka_logs.consumer(log), 30)) == list(range(30))
    local.append(INTERACTIONS, records(30, 30))
    local.close()
    found = collect(kafka_logs.consumer(other, group="later"), set(range(60)))
    assert sorted(found) == list(range(60))
    assert orphan == keeper.partition


def test_the_journal_goes_as_it_is_forwarded_where_nobody_folds_it(kafka_logs):
    log = kafka_logs.open(SMALL, folding=False)
    for n in range(0, 2_000, 50):
        log.append(INTERACTIONS, records(50, n))
        time.sleep(0.02)
    drain(kafka_logs.consumer(log), 2_000)
    eventually(lambda: log.healthy().journal_bytes < 20_000)


def test_where_it_is_folded_the_journal_waits_for_both(kafka_logs, kafka_server):
    log = kafka_logs.open(SMALL)
    for n in range(0, 1_000, 50):
        log.append(INTERACTIONS, records(50, n))
        time.sleep(0.02)
    drain(kafka_logs.consumer(log), 1_000)
    assert len(recovered(log)) == 1_000
    last = recovered(log)[-1].next
    log.trim(log.partition, last)
    eventually(lambda: (log.trim(log.partition, last), log.healthy().journal_bytes < 10_000)[1])


def test_an_offset_that_the_topic_does_not_have_is_told(kafka_logs):
    log = kafka_logs.open()
    log.append(INTERACTIONS, [("anna", 1, b"1")])
    consumer = kafka_logs.consumer(log, topics=[INTERACTIONS])
    (entry,) = drain(consumer, 1)
    consumer.close()
    consumer = kafka_logs.consumer(log, lambda _: {entry.partition: 1_000}, topics=[INTERACTIONS])
    with pytest.raises(OffsetLost) as lost:
        drain(consumer, 1)
    assert (lost.value.partition, lost.value.offset, lost.value.first, lost.value.end) == (entry.partition, 1_000, 0, 1)
    consumer.seek(entry.partition, 0)
    assert drain(consumer, 1) == [entry]


def test_topics_are_made_as_documented(kafka_logs, kafka_server):
    from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

    log = kafka_logs.keep(open_log(kafka_logs.url + "&retention_ms=7000000", kafka_logs.directory))
    log.append(CONTROL, [("switch", 1, b"ranker")])
    drain(kafka_logs.consumer(log), 1)
    admin = AdminClient({"bootstrap.servers": kafka_server.address})
    topics = admin.list_topics(timeout=PATIENCE_S).topics
    assert [len(topics[name].partitions) for name in (INTERACTIONS, DECISIONS, CONTROL)] == [4, 4, 1]
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in (INTERACTIONS, CONTROL)]
    users, control = (made.result(PATIENCE_S) for made in admin.describe_configs(asked).values())
    assert (users["retention.ms"].value, users["segment.ms"].value) == ("7000000", "1000000")
    assert (users["cleanup.policy"].value, control["cleanup.policy"].value) == ("delete", "compact")


def test_a_user_is_in_the_same_partition_of_both_topics_and_with_one_member(kafka_logs):
    log = kafka_logs.open()
    for topic in (INTERACTIONS, DECISIONS):
        log.append(topic, records(100, users=20))
    entries = drain(kafka_logs.consumer(log), 200)
    for key in {entry.key for entry in entries}:
        places = {(e.topic, e.partition.rpartition("-")[2]) for e in entries if e.key == key}
        assert len({number for _, number in places}) == 1


def test_no_secret_is_said(kafka_server, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(forwarder, "STALLED_S", 0.2)
    caplog.set_level(logging.DEBUG)
    secrets = tmp_path / "kafka.properties"
    secrets.write_text(
        "# of the operator\nsecurity.protocol=sasl_plaintext\nsasl.mechanism=PLAIN\nsasl.username=upwell\n"
        "sasl.password=hunter2\ndebug=security\n"
    )
    log = open_log(f"kafka://{kafka_server.address}?config={secrets}", tmp_path / "log")
    consumer = log.consumer("test", lambda _: {})
    try:
        log.append(INTERACTIONS, records(1))
        eventually(lambda: not log.healthy().delivering and log.healthy().error)
        consumer.poll(1, 0.5)
        assert "hunter2" not in log.healthy().error
    finally:
        consumer.close()
        log.close()
    assert caplog.text
    assert "hunter2" not in caplog.text
    assert Broker.of(f"kafka://h:1?config={secrets}").scrubbed("with hunter2!") == "with ***!"


def test_a_wrong_file_of_settings_is_refused_by_line(tmp_path):
    (tmp_path / "kafka.properties").write_text("a=b\nhunter2\n")
    with pytest.raises(BadRequest, match="line 2: not name=value") as refused:
        Broker.of(f"kafka://h:1?config={tmp_path / 'kafka.properties'}")
    assert "hunter2" not in str(refused.value)


def test_a_setting_that_librdkafka_does_not_know_is_refused_at_once(tmp_path):
    (tmp_path / "kafka.properties").write_text("no.such.setting=hunter2\n")
    with pytest.raises(BadRequest, match=r"no\.such\.setting") as refused:
        open_log(f"kafka://h:1?config={tmp_path / 'kafka.properties'}", tmp_path)
    assert "hunter2" not in str(refused.value)
