"""The routes that are not hot: contents, users, decisions, the switch, health and metrics."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from upwell.model import ID_BYTES, Content, User
from upwell.service import trust, views
from upwell.service.audit import NAME_LETTERS, Who
from upwell.service.auth import CLIENT, OPERATOR, OPERATORS
from upwell.service.errors import Refused, body_of, decode_refusal
from upwell.service.experiments import MODES
from upwell.service.node import Node

JSON = "application/json"
T = TypeVar("T")
BY = "upwell-by"
"""A header: the name of who asks, percent-encoded, for the audit log."""
FOR_CLIENTS = ("/v1/recommend", "/v1/interactions", "/v1/contents", "/openapi.json", "/docs")


def role_of(method: str, path: str) -> str:
    """The role that a request needs at least."""
    if method == "POST" and path.startswith("/v1/experiments/") and path.endswith("/arms"):
        return CLIENT  # who is in which arm
    return CLIENT if any(path == p or path.startswith(p + "/") for p in FOR_CLIENTS) else OPERATOR


def answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type=JSON)


async def body_as(http: Request, kind: type[T], **fixed: str) -> T:
    """The JSON body as a record, with ``fixed`` fields from the path. Raises Refused."""
    try:
        raw = msgspec.json.decode(await http.body())
        if not isinstance(raw, dict):
            raise Refused(422, "invalid", "the body must be a JSON object")
        for name, value in fixed.items():
            if raw.get(name, value) != value:
                raise Refused(422, "invalid", f"{name} in the body is not the one in the path", name)
        return msgspec.convert(raw | fixed, kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise decode_refusal(error) from None


def checked(id: str) -> str:
    """An id of a path. Raises Refused 422."""
    if not 0 < len(id.encode("utf-8", "surrogatepass")) <= ID_BYTES:
        raise Refused(422, "invalid", f"ids have 1 to {ID_BYTES} bytes", "id")
    return id


def allowed(http: Request, content: Content) -> Content:
    """The content as its caller may change it: `quality` is the operator's to set. Raises Refused 403."""
    if http.state.role in OPERATORS:
        return content
    contents = node_of(http).live.contents
    row = contents.rows.at.get(content.id)
    kept = contents.info[row].quality if row is not None else None
    if content.quality not in (None, kept):
        raise Refused(403, "forbidden", "quality is the operator's to set", "quality")
    return msgspec.structs.replace(content, quality=kept)


def node_of(http: Request) -> Node:
    return http.app.state.node


def who_of(http: Request) -> Who:
    """Who asks: the key that was proven, and the name that they give."""
    name = unquote(http.headers.get(BY, ""), errors="replace")
    return Who(http.state.role, name[:NAME_LETTERS])


def add_routes(app: FastAPI) -> None:
    """All of them, and the one shape of error for what FastAPI itself refuses."""
    app.add_api_route("/v1/contents/{id:path}", put_content, methods=["PUT"])
    app.add_api_route("/v1/contents", post_content, methods=["POST"], status_code=201)
    app.add_api_route("/v1/contents/{id:path}", get_content, methods=["GET"])
    app.add_api_route("/v1/contents/{id:path}", delete_content, methods=["DELETE"])
    app.add_api_route("/v1/trust", get_trust, methods=["GET"])
    app.add_api_route("/v1/trust/{id:path}", get_trust_of, methods=["GET"])
    app.add_api_route("/v1/trust/{id:path}", put_trust, methods=["PUT"])
    app.add_api_route("/v1/users/{id:path}", put_user, methods=["PUT"])
    app.add_api_route("/v1/users/{id:path}", get_user, methods=["GET"])
    app.add_api_route("/v1/users/{id:path}", delete_user, methods=["DELETE"])
    app.add_api_route("/v1/decisions/{id:path}", get_decision, methods=["GET"])
    app.add_api_route("/v1/policies", get_policies, methods=["GET"])
    app.add_api_route("/v1/policies/{id}", get_policy, methods=["GET"])
    app.add_api_route("/v1/policies/rollback", post_rollback, methods=["POST"])
    app.add_api_route("/v1/policies/{id}/activate", post_activate, methods=["POST"])
    app.add_api_route("/v1/switch", get_switch, methods=["GET"])
    app.add_api_route("/v1/switch", put_switch, methods=["PUT"])
    app.add_api_route("/healthz", healthz, methods=["GET"])
    app.add_api_route("/readyz", readyz, methods=["GET"])
    app.add_api_route("/metrics", metrics, methods=["GET"])

    @app.exception_handler(RequestValidationError)
    async def invalid(http: Request, error: RequestValidationError) -> Response:  # pyright: ignore[reportUnusedFunction]
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return Response(body_of(Refused(422, "invalid", first["msg"], field)), 422, media_type=JSON)

    @app.exception_handler(HTTPException)
    async def refused(http: Request, error: HTTPException) -> Response:  # pyright: ignore[reportUnusedFunction]
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        refusal = Refused(error.status_code, code, str(error.detail))
        return Response(body_of(refusal), error.status_code, error.headers, JSON)


async def put_content(id: str, http: Request) -> Response:
    """Register a content, or change what may change of it: all but `published_at`."""
    content = allowed(http, await body_as(http, Content, id=checked(id)))
    await node_of(http).shelf.put(content)
    return answer(content)


async def post_content(http: Request) -> Response:
    """Register a content whose id is in the body."""
    content = allowed(http, await body_as(http, Content))
    await node_of(http).shelf.put(content)
    return answer(content, 201)


async def get_content(id: str, http: Request) -> Response:
    """A content's state: what it is, what was counted of it, its posterior, its grants, its story."""
    return answer(await views.content(node_of(http), checked(id)))


async def delete_content(id: str, http: Request) -> Response:
    """Take a content down: it is shown no more, and what its grant had left goes back."""
    await node_of(http).shelf.take_down(checked(id))
    return answer({"taken_down": id})


async def put_user(id: str, http: Request) -> Response:
    """Tell how old an account is, so that it is not taken for new at its first request."""
    user = await body_as(http, User, id=checked(id))
    await node_of(http).put_user(user)
    return answer(user)


async def get_user(id: str, http: Request) -> Response:
    """A user's mind state, and their latest interactions."""
    return answer(await views.user(node_of(http), checked(id)))


async def delete_user(id: str, http: Request) -> Response:
    """Erase all that is stored of a user: record, history, decisions, log entries."""
    return answer({"erased": await node_of(http).erasure.erase(checked(id))})


async def get_trust(http: Request) -> Response:
    """Who is doubted: contents, creators and users, and operators' words; whether the judge is there."""
    return answer(await views.trusted(node_of(http)))


async def get_trust_of(id: str, http: Request) -> Response:
    """A content's probability to cheat, with its interval, its reasons and what follows."""
    return answer(views.trusted_of(node_of(http), checked(id)))


async def put_trust(id: str, http: Request) -> Response:
    """An operator's word on a content: `honest` or `cheat` stands above the judge's; null takes it back."""
    node = node_of(http)
    asked = await body_as(http, trust.Asked)
    views.trusted_of(node, checked(id))
    await node.appeal(id, asked, who_of(http))
    return answer(views.trusted_of(node, id))


async def get_decision(id: str, http: Request, content: str | None = None) -> Response:
    """A decision and why: each contribution, in numbers and in a sentence. `content`: what that one lacked."""
    line = await node_of(http).decision(checked(id))
    if line is None:
        raise Refused(404, "not_found", f"no decision '{id}'", "id")
    return answer(await views.decision(node_of(http), line, content))


async def get_policies(http: Request) -> Response:
    """Versions of the policy: who gets which, where each came from and what became of it."""
    return answer(await views.policies(node_of(http)))


async def get_policy(id: str, http: Request) -> Response:
    """One version."""
    return answer(views.version((await views.policies_of(node_of(http))).of(checked(id))))


async def post_activate(id: str, http: Request) -> Response:
    """Make a version live for all users from the next request on; a trial ends."""
    node, who, now_ms = node_of(http), who_of(http), node_of(http).clock()
    await node.change_versions(lambda policies: policies.activate(checked(id), "by an operator", now_ms, who))
    return answer(await views.policies(node))


async def post_rollback(http: Request) -> Response:
    """End the trial that is under way, or else go back to the version that was live before."""
    node, who, now_ms = node_of(http), who_of(http), node_of(http).clock()
    await node.change_versions(lambda policies: policies.roll_back("by an operator", now_ms, who))
    return answer(await views.policies(node))


async def get_switch(http: Request) -> Response:
    """Who decides: `ranker`, `rules` or `policy`."""
    return answer({"mode": node_of(http).live.mode})


class Switch(msgspec.Struct, forbid_unknown_fields=True):
    mode: str


async def put_switch(http: Request) -> Response:
    """Kill switch: who decides from the next request on."""
    switch = await body_as(http, Switch)
    if switch.mode not in MODES:
        raise Refused(422, "invalid", f"mode must be one of {', '.join(MODES)}", "mode")
    await node_of(http).switch(switch.mode, who_of(http))
    return answer({"mode": switch.mode})


async def healthz() -> Response:
    """Whether the process lives."""
    return answer({"status": "ok"})


async def readyz(http: Request) -> Response:
    """Whether requests are answered: not while starting or draining."""
    node: Node | None = getattr(http.app.state, "node", None)
    if node is None or not node.ready or node.draining:
        raise Refused(503, "not_ready", "the service is starting or stopping", retry_after_s=1)
    return answer({"status": "ready", "store_down": node.store_down})


async def metrics(http: Request) -> Response:
    """Figures in Prometheus's text format."""
    text = http.app.state.metrics.text(node_of(http))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
