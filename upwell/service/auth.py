"""Who may do what: bearer tokens of two roles, hosts that are answered, and how often a caller may ask."""

from __future__ import annotations

import hmac
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from pydantic import SecretStr

from upwell.errors import BadRequest
from upwell.service.errors import Refused
from upwell.service.settings import Settings

CLIENT, OPERATOR, SECOND = "client", "operator", "operator-2"
"""Roles. Two keys open what operators may: some changes need both."""
OPERATORS = (OPERATOR, SECOND)
CALLERS = 10_000
"""Callers whose rates are kept; of more, those that asked longest ago start anew."""


def loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(settings: Settings) -> None:
    """Raises BadRequest when the service would answer other machines without asking who they are."""
    client, operator, second = settings.client_token, settings.operator_token, settings.second_token
    if not loopback(settings.host) and (client is None or operator is None):
        raise BadRequest(
            f"host {settings.host} is not loopback: set UPWELL_CLIENT_TOKEN and UPWELL_OPERATOR_TOKEN, "
            "or listen on 127.0.0.1"
        )
    if client is not None and client == operator:
        raise BadRequest("client_token and operator_token are the same: every client would be an operator")
    if second is not None and (operator is None or second in (operator, client)):
        raise BadRequest("second_token: two keys are two; give an operator_token, and another token than the others")


class Gate:
    """Checks one request's headers. Tokens are compared in constant time, and never written anywhere."""

    def __init__(self, settings: Settings) -> None:
        self._hosts = {name.lower() for name in (settings.host, *settings.hosts) if name}
        tokens = {OPERATOR: settings.operator_token, SECOND: settings.second_token, CLIENT: settings.client_token}
        self._tokens = [
            (role, token.get_secret_value().encode()) for role, token in tokens.items() if isinstance(token, SecretStr)
        ]

    def role(self, authorization: bytes | None) -> str:
        """The role that the Authorization header proves. Raises Refused 401."""
        if not self._tokens:
            return OPERATOR
        scheme, _, given = (authorization or b"").partition(b" ")
        proven: str | None = None
        for role, token in self._tokens:
            # Every token is compared, so that the time taken tells nothing.
            if hmac.compare_digest(given.strip(), token) and scheme.lower() == b"bearer" and proven is None:
                proven = role
        if proven is None:
            raise Refused(401, "unauthorized", "send 'Authorization: Bearer <token>' with a token of this service")
        return proven

    def must_be(self, role: str, needed: str) -> None:
        """Raises Refused 403 when a client asks for what operators may."""
        if needed == OPERATOR and role not in OPERATORS:
            raise Refused(403, "forbidden", "this needs the operator's token")

    def host(self, headers: Mapping[str, str]) -> None:
        """Raises Refused 403 when a page of another site asks through a user's browser (DNS rebinding, CSRF)."""
        name = hostname(f"//{headers.get('host', '')}")
        if not self._answers(name):
            raise Refused(403, "wrong_host", f"host '{name}' is not served here: add it to `hosts`", "Host")
        origin = headers.get("origin")
        if origin is not None and not self._answers(hostname(origin)):
            raise Refused(403, "wrong_origin", "pages of that origin may not call this service", "Origin")

    def _answers(self, name: str) -> bool:
        return loopback(name) or name in self._hosts


def hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


class Rates:
    """A token bucket a caller: ``rate`` requests a second, with a second's worth in stock."""

    def __init__(self, rate_per_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock_s = rate_per_s, clock_s
        self._stock: OrderedDict[str, tuple[float, float]] = OrderedDict()  # caller → requests in stock, when

    def take(self, caller: str) -> None:
        """One request of a caller. Raises Refused 429 with the time after which to try again."""
        if self._rate <= 0:
            return
        now = self._clock_s()
        most = max(self._rate, 1.0)
        stock, then = self._stock.pop(caller, (most, now))
        stock = min(most, stock + (now - then) * self._rate)
        allowed = stock >= 1.0 - 1e-9  # who waits as long as told is let in, whatever was rounded
        self._stock[caller] = (stock - 1.0 if allowed else stock, now)
        while len(self._stock) > CALLERS:
            self._stock.popitem(last=False)
        if not allowed:
            wait_s = math.ceil((1.0 - stock) / self._rate)
            raise Refused(429, "too_many", f"over {self._rate:g} requests a second", retry_after_s=wait_s)
