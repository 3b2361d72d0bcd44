"""kill -9, again and again: what was appended is there, once, in order."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from event_logs import drain, recovered

CHILD = Path(__file__).with_name("log_child.py")


def run_and_kill(url: str, directory: Path, first: int, calls: int, wait_s: float) -> tuple[str, int]:
    """Kills a child some time after so many calls; returns its partition and how far it surely got."""
    command = [sys.executable, CHILD, url, directory, str(first)]
    got, partition = first, ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        for line in child.stdout:
            what, value = line.split()
            if what == "open":
                partition = value
                continue
            got, calls = int(value), calls - 1
            if calls == 0:
                time.sleep(wait_s)
                child.kill()  # and read what it still said
    return partition, got


@pytest.mark.slow
def test_nothing_appended_is_lost_or_doubled_over_twenty_kills(logs):
    dice, got, partitions = random.Random(5), 0, set()
    for _ in range(20):
        partition, got = run_and_kill(logs.url, logs.directory, got, dice.randint(1, 120), dice.random() * 0.02)
        partitions.add(partition)
        log = logs.open()
        numbers = [int(entry.value) for entry in recovered(log)]
        assert log.partition == partition
        log.close()
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= got
        got = len(numbers)
    assert len(partitions) == 1
    if logs.url.startswith("embedded"):
        log = logs.open()
        entries = drain(logs.consumer(log), got)
        assert [int(entry.value) for entry in entries] == list(range(got))


@pytest.mark.slow
def test_kafka_gets_all_that_killed_processes_appended(kafka_logs):
    got = 0
    for kills in range(4):
        _, got = run_and_kill(kafka_logs.url, kafka_logs.directory, got, 30 * (kills + 1), 0.3)
    log = kafka_logs.open()
    wanted = {int(entry.value) for entry in recovered(log)}
    assert len(wanted) >= got
    consumer, found, until = kafka_logs.consumer(log), [], time.monotonic() + 60
    while set(found) != wanted and time.monotonic() < until:
        found += [int(entry.value) for entry in consumer.poll(500, 0.2)]
    assert set(found) == wanted  # some may have come twice
