"""How to reach Kafka: what the URL says, and the settings that every client shares."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from confluent_kafka import KafkaError, KafkaException, Producer

from upwell.errors import BadRequest

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
SECRETS = ("password", "secret", "key.pem", "token", "oauthbearer.config")
"""In the name of a setting whose value is never shown."""


@dataclass(frozen=True)
class Broker:
    """``kafka://HOST:PORT[,HOST:PORT]?partitions=8&retention_ms=604800000&config=FILE``.

    ``config`` names a file of librdkafka settings, ``name=value`` a line, for TLS and passwords. ``partitions`` and
    ``retention_ms`` hold for topics that do not exist yet.
    """

    servers: str
    partitions: int
    retention_ms: int
    extra: dict[str, str]

    @classmethod
    def of(cls, url: str) -> Broker:
        """Raises BadRequest. It never quotes the URL, which may hold a password by mistake."""
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.path.strip("/") or not parts.netloc:
            raise BadRequest("the log's URL is not kafka://HOST:PORT[,HOST:PORT]?…; passwords go into ?config=FILE")
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        extra = settings(Path(given.pop("config"))) if "config" in given else {}
        partitions = number(given.pop("partitions", "8"), "partitions", 1, 10_000)
        retention_ms = number(given.pop("retention_ms", str(7 * DAY_MS)), "retention_ms", 60_000, 10_000 * DAY_MS)
        if given:
            raise BadRequest(f"the log's URL has no option {sorted(given)[0][:40]}: partitions, retention_ms, config")
        made = cls(parts.netloc, partitions, retention_ms, extra)
        try:
            Producer(made.settings(lambda _: None)).close()
        except KafkaException as error:
            wrong: KafkaError = error.args[0]
            raise BadRequest(f"the settings of Kafka: {made.scrubbed(wrong.str())}") from None
        return made

    def settings(self, failed: Callable[[str], None], **own: str | int | bool) -> dict[str, Any]:
        """For a client: those of ``config``, over which go ours. ``failed`` hears of errors, without secrets."""

        def heard(error: KafkaError) -> None:
            failed(self.scrubbed(error.str()))

        return {
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "log.connection.close": False,
            **self.extra,
            "bootstrap.servers": self.servers,
            "client.id": "upwell",
            "error_cb": heard,
            "logger": Scrubber(self.scrubbed),
            **{name.replace("_", "."): value for name, value in own.items()},
        }

    def scrubbed(self, text: str) -> str:
        """Without the values of settings that are secret."""
        for name, value in self.extra.items():
            if value and any(word in name for word in SECRETS):
                text = text.replace(value, "***")
        return text


class Scrubber:
    """What librdkafka says, in this module's log."""

    def __init__(self, scrubbed: Callable[[str], str]) -> None:
        self._scrubbed = scrubbed

    def log(self, _: int, text: str, *rest: object) -> None:
        """For looking into things only: what an operator has to know comes as an error, and once."""
        log.debug("%s", self._scrubbed(text % rest if rest else text))


def settings(path: Path) -> dict[str, str]:
    """A file of ``name=value`` lines; empty ones and those that begin with # are passed over. Raises BadRequest."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path}: no file of Kafka settings: {error}") from None
    found: dict[str, str] = {}
    for row, line in enumerate(lines, 1):
        name, equals, value = line.partition("=")
        if not line.strip() or name.lstrip().startswith("#"):
            continue
        if not equals:
            raise BadRequest(f"{path}: line {row}: not name=value")
        found[name.strip()] = value.strip()
    return found


def number(text: str, name: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise BadRequest(f"the log's URL: {name} is not a number from {least} to {most}")
    return int(text)
