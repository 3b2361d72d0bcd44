"""The OpenAPI document: FastAPI's for its own routes, and ``msgspec``'s own schemas for every body."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from upwell.model import Answer, Content, Interaction, Request, Taken, User
from upwell.service import cold, errors, experiment_routes, goal_routes, ingest
from upwell.service.experiments import Plan

TYPES = (
    Request, Answer, ingest.Many, Taken, Content, User, Interaction, cold.Switch, goal_routes.Wanted,
    goal_routes.Weighing, Plan, experiment_routes.Ramp, experiment_routes.Askers, errors.Body,
)  # fmt: skip
BODIES: dict[tuple[str, str], type] = {
    ("/v1/recommend", "post"): Request,
    ("/v1/interactions", "post"): ingest.Many,
    ("/v1/contents/{id}", "put"): Content,
    ("/v1/contents", "post"): Content,
    ("/v1/users/{id}", "put"): User,
    ("/v1/switch", "put"): cold.Switch,
    ("/v1/goals", "put"): goal_routes.Wanted,
    ("/v1/goals/{id}/proposal", "put"): goal_routes.Weighing,
    ("/v1/experiments", "post"): Plan,
    ("/v1/experiments/{id}/arms", "post"): experiment_routes.Askers,
    ("/v1/experiments/{id}", "patch"): experiment_routes.Ramp,
}
FROM_PATH = (("/v1/contents/{id}", "put"), ("/v1/users/{id}", "put"))
HOT: dict[str, dict[str, Any]] = {
    "/v1/recommend": {
        "summary": "Recommend",
        "description": "A slate of the ranker's candidates for a user. The same `request_id` gets the same answer.",
        "operationId": "recommend",
        "answer": ("200", Answer),
    },
    "/v1/interactions": {
        "summary": "Interactions",
        "description": "What users did. Answered once durable; each event is accepted, known already, or rejected.",
        "operationId": "interactions",
        "answer": ("202", Taken),
    },
}
ERRORS = {
    "400": "malformed", "401": "no valid token", "403": "not allowed", "404": "not found", "409": "in conflict",
    "413": "too large", "422": "well-formed but wrong", "429": "over a limit: see Retry-After",
    "503": "starting or stopping",
}  # fmt: skip


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document; made once."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(title=app.title, version=app.version, description=__doc__ or "", routes=app.routes)
    references, schemas = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    reference = dict(zip(TYPES, references, strict=True))
    made["components"] = {
        "schemas": schemas | optional_ids(schemas),
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
    }
    made["security"] = [{}, {"bearer": []}]
    paths: dict[str, dict[str, Any]] = {path.replace("{id:path}", "{id}"): ops for path, ops in made["paths"].items()}
    for path, about in HOT.items():
        status, kind = about["answer"]
        operation = {name: value for name, value in about.items() if name != "answer"}
        operation["responses"] = {status: {"description": "done", "content": content_of(reference[kind])}}
        paths.setdefault(path, {})["post"] = operation
    for (path, method), kind in BODIES.items():
        schema = reference[kind]
        if (path, method) in FROM_PATH:
            schema = {"$ref": f"{schema['$ref']}InPath"}
        paths[path][method]["requestBody"] = {"required": True, "content": content_of(schema)}
    for operations in paths.values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            for status, text in ERRORS.items():
                operation["responses"][status] = {"description": text, "content": content_of(reference[errors.Body])}
            for parameter in operation.get("parameters", []):
                if not parameter["schema"].keys() & {"maxLength", "maximum"}:  # an id
                    parameter["schema"] = {"type": "string", "minLength": 1, "maxLength": 128}
    made["paths"] = paths
    app.openapi_schema = made
    return made


def content_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def optional_ids(schemas: dict[str, Any]) -> dict[str, Any]:
    """Records whose id stands in the path: the body need not repeat it."""
    out: dict[str, Any] = {}
    for kind in ("Content", "User"):
        schema = dict(schemas[kind])
        schema["required"] = [name for name in schema["required"] if name != "id"]
        schema["properties"] = {name: value for name, value in schema["properties"].items() if name != "id"}
        out[f"{kind}InPath"] = schema
    return out
