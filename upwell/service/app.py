"""HTTP: routes, their checks, and one shape of error.

The two hot routes are plain Starlette routes that ``msgspec`` reads and writes; the rest is FastAPI's. The OpenAPI
document describes both kinds, the hot ones from the same ``msgspec`` types that check them (``openapi``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upwell import __version__
from upwell.model import Request
from upwell.service import cold, experiment_routes, goal_routes, openapi
from upwell.service.auth import Gate, Rates
from upwell.service.errors import Refused, body_of, decode_refusal
from upwell.service.metrics import Metrics
from upwell.service.node import Node
from upwell.service.settings import Settings

log = logging.getLogger(__name__)

JSON = "application/json"
NOW = "upwell-now-ms"
OPEN = ("/healthz", "/readyz")
"""Answered without a token: they tell nothing but that the service is there."""
request_decoder = msgspec.json.Decoder(Request)
encoder = msgspec.json.Encoder()


def create(settings: Settings, start: Callable[[], Awaitable[Node]]) -> FastAPI:
    """The service's application; ``start`` opens the node once the event loop runs."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncGenerator[None]:
        node = app.state.node = await start()
        await node.start()
        yield
        await node.stop()

    app = FastAPI(title="Upwell", version=__version__, lifespan=life, redoc_url=None)
    app.state.settings, app.state.metrics = settings, Metrics()
    app.add_route("/v1/recommend", recommend, methods=["POST"], include_in_schema=False)
    app.add_route("/v1/interactions", interactions, methods=["POST"], include_in_schema=False)
    cold.add_routes(app)
    goal_routes.add_routes(app)
    experiment_routes.add_routes(app)
    app.openapi = lambda: openapi.document(app)
    app.add_middleware(Door, settings=settings, metrics=app.state.metrics, state=app.state)
    return app


async def recommend(http: HttpRequest) -> Response:
    node: Node = http.app.state.node
    try:
        request = request_decoder.decode(await http.body())
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise decode_refusal(error) from None
    if len(request.candidates) > node.settings.candidates:
        raise Refused(413, "too_large", f"more than {node.settings.candidates} candidates", "candidates")
    answer = await node.recommend(request)
    return Response(encoder.encode(answer), media_type=JSON)


async def interactions(http: HttpRequest) -> Response:
    node: Node = http.app.state.node
    taken = await node.interactions(await http.body())
    return Response(encoder.encode(taken), 202, media_type=JSON)


class Door:
    """What every request passes: state of the service, host, token, rate, size; and what every error looks like."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics, state: object) -> None:
        self._app, self._settings, self._metrics, self._state = app, settings, metrics, state
        self._gate, self._rates = Gate(settings), Rates(settings.rate_per_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            limited = await self._admit(scope, receive)
            await self._app(scope, limited, told)
        except Refused as refused:
            await refusal(refused)(scope, receive, told)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            await refusal(Refused(500, "internal", "the service failed; its log says why"))(scope, receive, told)
        finally:
            self._metrics.request(scope, status, time.perf_counter() - began)

    async def _admit(self, scope: Scope, receive: Receive) -> Receive:
        path, headers = scope["path"], Headers(scope=scope)
        self._gate.host(headers)
        if path in OPEN:
            return receive
        authorization = headers.get("authorization")
        role = self._gate.role(authorization.encode("latin-1") if authorization else None)
        self._gate.must_be(role, cold.role_of(scope["method"], path))
        scope["state"] = {**scope.get("state", {}), "role": role}
        client = scope.get("client")
        self._rates.take(f"{role} {client[0] if client else ''}")
        node: Node | None = getattr(self._state, "node", None)
        if node is None or not node.ready or node.draining:
            raise Refused(503, "not_ready", "the service is starting or stopping", retry_after_s=1)
        if self._settings.clock == "request":
            now = headers.get(NOW, "")
            if not now.isdecimal() or len(now) > 15:
                raise Refused(400, "malformed", f"this service simulates: {NOW} must say what time it is, Unix ms", NOW)
            await node.told(int(now))
        return await self._whole(headers, receive)

    async def _whole(self, headers: Headers, receive: Receive) -> Receive:
        """The body, read to its end or refused when it is too large, whatever its headers say."""
        most = self._settings.body_bytes
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise Refused(400, "malformed", "Content-Length is not a number", "Content-Length")
        if int(length) > most:
            raise Refused(413, "too_large", f"the body is larger than {most} bytes")
        first = await receive()
        if len(first.get("body", b"")) > most:  # sent in chunks, and whole already
            raise Refused(413, "too_large", f"the body is larger than {most} bytes")
        if not first.get("more_body"):
            messages = iter([first])
        else:
            parts = [first.get("body", b"")]
            size = len(parts[0])
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    break
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise Refused(413, "too_large", f"the body is larger than {most} bytes")
                if not message.get("more_body"):
                    break
            messages = iter([{"type": "http.request", "body": b"".join(parts), "more_body": False}])

        async def again() -> Message:
            for message in messages:
                return message
            return await receive()

        return again


def refusal(refused: Refused) -> Response:
    headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s is not None else None
    if refused.status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return Response(body_of(refused), refused.status, headers, JSON)
