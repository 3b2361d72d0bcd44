"""The way to a Redis server: its URL, its scripts, its errors, and how many commands went there."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.exceptions import NoScriptError, RedisError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from upwell.errors import BadRequest
from upwell.state.errors import StoreDown


class RedisLink:
    """Connections to one server. ``timeout_s`` bounds connecting and each answer."""

    def __init__(self, url: str, timeout_s: float) -> None:
        options = _options(url)
        self.where = f"redis {options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"
        self._secret: str = options.get("password", "")
        self._lock = threading.Lock()
        self.commands: Counter[str] = Counter()
        self.pool = ConnectionPool(
            **options,
            protocol=3,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # By default redis-py sends a command again when the answer is lost: our counters would count twice.
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            driver_info=None,
        )
        self._client = Redis(connection_pool=self.pool)

    def __repr__(self) -> str:
        return f"<{self.where}>"

    def run(self, name: str, *args: str | bytes | int) -> Any:
        """Sends one command and returns its answer. ``StoreDown`` for every error."""
        try:
            return self._send(name, *args)
        except (RedisError, OSError) as error:
            raise self.down(error) from None

    def script(self, name: str, *args: str | bytes | int) -> Any:
        """Runs a script of the folder ``lua``: one command, or three when the server does not know it (yet)."""
        text, digest = _script(name)
        try:
            try:
                return self._send("EVALSHA", digest, 0, *args)
            except NoScriptError:  # a new server, or one that was restarted
                self._send("SCRIPT LOAD", text)
                return self._send("EVALSHA", digest, 0, *args)
        except (RedisError, OSError) as error:
            raise self.down(error) from None

    def down(self, error: Exception) -> StoreDown:
        """The error in our terms, free of the password: old servers repeat the login they refuse."""
        text = str(error) or type(error).__name__
        for secret in {self._secret, quote(self._secret, safe="")} - {""}:
            text = text.replace(secret, "***")
        return StoreDown(f"{self.where}: {text}")

    def close(self) -> None:
        self._client.close()
        self.pool.disconnect()

    def _send(self, name: str, *args: str | bytes | int) -> Any:
        with self._lock:
            self.commands[name] += 1
        return self._client.execute_command(name, *args)  # pyright: ignore[reportUnknownMemberType]


def _options(url: str) -> dict[str, Any]:
    hint = "a Redis URL is redis://[[user]:password@]host[:port][/number], with %23 for # and the like in a password"
    authority, _, rest = re.sub("([/?#])", " \\1", url.partition("://")[2], count=1).partition(" ")
    if "@" in rest and "@" not in authority:
        raise BadRequest(hint)  # a password with / ? or # in it: a part of it would pass for a port
    try:
        urlsplit(url).port  # noqa: B018  # raises for what is no number, and quotes it
        options: dict[str, Any] = parse_url(url)
        ConnectionPool(**options).make_connection()  # connects to nothing; raises for an option that there is not
    except (TypeError, ValueError, RedisError):
        raise BadRequest(hint) from None
    for ours in ("protocol", "socket_timeout", "socket_connect_timeout", "retry", "decode_responses"):
        options.pop(ours, None)
    return options


@cache
def _script(name: str) -> tuple[str, str]:
    text = (files("upwell.state") / "lua" / f"{name}.lua").read_text("utf-8")
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
