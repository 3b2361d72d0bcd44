"""What a caller is told when a request cannot be answered: one shape, ``{"error": {"code", "message", "field"}}``."""

from __future__ import annotations

import re

import msgspec


class Refused(Exception):
    """An answer other than success. ``field``: path of what was wrong, "" where it is the whole."""

    def __init__(self, status: int, code: str, message: str, field: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.field = status, code, message, field
        self.retry_after_s = retry_after_s


class Detail(msgspec.Struct):
    code: str
    message: str
    field: str


class Body(msgspec.Struct):
    error: Detail


def body_of(error: Refused) -> bytes:
    return msgspec.json.encode(Body(Detail(error.code, error.message, error.field)))


def decode_refusal(error: Exception) -> Refused:
    """400 for what is not JSON, 422 for JSON that breaks a rule, with the path of what did."""
    if isinstance(error, RecursionError):
        return Refused(400, "malformed", "the body is nested too deeply")
    text = str(error)
    if isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError):
        return Refused(400, "malformed", f"the body is not JSON: {text}")
    found = re.search(r"\s*- at `\$\.?(.*?)`$", text)
    field = found.group(1) if found else ""
    return Refused(422, "invalid", text[: found.start()] if found else text, field)


def store_down() -> Refused:
    """What needs the store cannot be done now."""
    return Refused(429, "store_down", "the store cannot be asked now", retry_after_s=1)
