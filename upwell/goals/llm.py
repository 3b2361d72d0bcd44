"""Asking a language model for weights: any server that speaks OpenAI's chat protocol, within a time and a spend limit.

An answer is wanted as JSON of ``answer.SCHEMA``; a server that refuses that is asked for any JSON, then for text. The
key comes from the variable ``UPWELL_LLM_KEY`` and is in nothing that is told, kept or logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import time
from concurrent.futures import Future
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from upwell.errors import BadRequest
from upwell.goals.answer import READ, SCHEMA, Answer, printable, read
from upwell.goals.question import Question, messages
from upwell.goals.spend import Spend

if TYPE_CHECKING:
    from openai import AsyncOpenAI

KEY = "UPWELL_LLM_KEY"
FORMS: tuple[dict[str, Any], ...] = (
    {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}},
    {"response_format": {"type": "json_object"}},
    {},
)
"""How an answer is asked for, the strictest first."""
UNKNOWN_FORM = (400, 422)
"""Status codes of a server that does not know a form."""
MARKS = 64
"""Tokens that a chat template adds, at most."""
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]*=*")
"""What a bearer token is made of (RFC 6750): such a one looks the same wherever it is quoted, and is found there."""
MANY, KEPT = 16, 64
"""Most candidates of a question, questions whose replies are kept."""
GRACE_S = 0.5
"""What a call that is past its time limit may take to be taken back, seconds."""


class Reply(NamedTuple):
    """Candidates, and what is recorded of how they were had: ``raw`` holds each one's text.

    ``prompt_hash``: SHA-256 of the messages as JSON. ``tokens``: as the server counts, of prompts and answers.
    ``why_none``: why there are no answers, "" where there are. A reply from memory took 0 seconds and 0 tokens.
    """

    answers: tuple[Answer, ...]
    raw: tuple[str, ...]
    prompt_hash: str
    model: str
    seconds: float
    tokens: int
    why_none: str


class Said(NamedTuple):
    """A model's text and the tokens it took."""

    text: str
    tokens: int


class Asker:
    """A model behind a URL, such as ``http://127.0.0.1:8000/v1``.

    Args:
        timeout_s: of a whole question, its candidates and retries together, seconds.
        retries: of a call, after connection errors and status 408, 409, 429 and 5xx, with exponential backoff and
            jitter or as the server's Retry-After says.
        max_tokens: of an answer.
        temperature: how much candidates differ.
        spend: tokens a day; None: no limit.

    Raises BadRequest where the openai client is not installed or the URL is none.
    """

    def __init__(
        self, url: str, model: str = "qwen2-72b-instruct", *, timeout_s: float = 60.0, retries: int = 3,
        max_tokens: int = 1_500, temperature: float = 0.8, spend: Spend | None = None,
    ) -> None:  # fmt: skip
        try:
            import_module("openai")  # takes a second, which is not to be a question's
        except ImportError:
            raise BadRequest("asking a language model needs the openai client: pip install 'upwell[llm]'") from None
        if not url.startswith(("http://", "https://")):
            raise BadRequest(
                "the language model's URL must begin with http:// or https://, as http://127.0.0.1:8000/v1"
            )
        self.url, self.model, self.timeout_s, self.retries = url, model, timeout_s, retries
        self.max_tokens, self.temperature, self.spend = max_tokens, temperature, spend
        self._form = 0  # of FORMS, the first that the server knows
        self._kept: dict[tuple[str, int], Reply] = {}

    def ask(self, question: Question, many: int = 1) -> Reply:
        """Up to ``many`` candidates; blocks for at most ``timeout_s``, give or take a moment. Raises nothing."""
        started = time.monotonic()
        many = min(max(many, 1), MANY)
        asked = messages(question)
        text = json.dumps(asked, ensure_ascii=False)
        prompt_hash = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        kept = self._kept.get((prompt_hash, many))
        if kept is not None:
            return kept._replace(seconds=0.0, tokens=0)
        key = os.environ.get(KEY, "").strip()
        said, failed = self._had(asked, many, key)
        raw = tuple(safe(one.text, key)[:READ] for one in said)
        answers = tuple(map(read, raw))
        why = "" if answers else "; ".join(dict.fromkeys(told(error, key) for error in failed))
        tokens = sum(one.tokens for one in said)
        reply = Reply(answers, raw, prompt_hash, self.model, time.monotonic() - started, tokens, why)
        if any(answer.weights or answer.program for answer in answers):
            self._kept[prompt_hash, many] = reply
            if len(self._kept) > KEPT:
                self._kept.pop(next(iter(self._kept)))
        return reply

    def _had(self, asked: list[dict[str, str]], many: int, key: str) -> tuple[list[Said], list[BaseException]]:
        """What was said within the time limit, and what went wrong.

        In a thread with an event loop of its own: a call that is late is cancelled (the server stops generating), and
        one that cannot be, as a name that is being looked up, is left behind.
        """
        had: Future[tuple[list[Said], list[BaseException]]] = Future()

        async def work() -> None:
            try:
                had.set_result(await self._all(asked, many, key))
            except Exception as error:  # whatever a client or a server may come up with
                had.set_exception(error)

        Thread(target=lambda: asyncio.run(work()), daemon=True, name="upwell-llm").start()
        try:
            return had.result(self.timeout_s + GRACE_S)
        except TimeoutError:
            return [], [self._late()]
        except Exception as error:
            return [], [error]

    async def _all(self, asked: list[dict[str, str]], many: int, key: str) -> tuple[list[Said], list[BaseException]]:
        from openai import AsyncOpenAI

        if not TOKEN.fullmatch(key):
            raise BadRequest(f"{KEY} holds characters that no key has")
        async with AsyncOpenAI(
            api_key=key or "none", base_url=self.url, timeout=self.timeout_s, max_retries=self.retries
        ) as client:
            calls = [asyncio.create_task(self._one(client, asked)) for _ in range(many)]
            done, late = await asyncio.wait(calls, timeout=self.timeout_s)
            for call in late:
                call.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        failed = [error for call in done if (error := call.exception()) is not None]
        failed += [self._late()] * bool(late)
        return [call.result() for call in done if call.exception() is None], failed

    def _late(self) -> BaseException:
        return TimeoutError(f"no answer within {self.timeout_s:g} s")

    async def _one(self, client: AsyncOpenAI, asked: list[dict[str, str]]) -> Said:
        from openai import APIConnectionError, APIStatusError

        # A token is a byte at least, so that no call costs more than what is reserved for it.
        bytes_asked = sum(len(message["content"].encode("utf-8", "replace")) for message in asked)
        reserved = bytes_asked + MARKS + self.max_tokens
        options: dict[str, Any] = {"max_tokens": self.max_tokens, "temperature": self.temperature, "messages": asked}
        for form in range(self._form, len(FORMS)):
            if self.spend is not None and not self.spend.reserve(reserved):
                raise BadRequest(f"today's {self.spend.most} tokens are spent")
            used = reserved  # of a call that is cut off it is not known
            try:
                done = await client.chat.completions.create(model=self.model, **options, **FORMS[form])
                text = done.choices[0].message.content
                used, self._form = used_tokens(done, reserved), form
                return Said(text if isinstance(text, str) else "", used)
            except APIStatusError as error:
                used = 0
                if error.status_code not in UNKNOWN_FORM or form == len(FORMS) - 1:
                    raise
            except APIConnectionError as error:
                used = 0 if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout") else reserved
                raise
            finally:
                if self.spend is not None:
                    self.spend.settle(reserved, used)
        raise AssertionError("the last form returns or raises")


def used_tokens(done: Any, reserved: int) -> int:
    """As the server counts; where it does not, all that was reserved."""
    total = getattr(done.usage, "total_tokens", None)
    return total if isinstance(total, int) and total >= 0 else reserved


def safe(text: str, key: str) -> str:
    """Without the key, and such as can be written as UTF-8."""
    text = text.encode("utf-8", "replace").decode()
    return text.replace(key, "***") if key else text


def told(error: BaseException, key: str) -> str:
    return printable(safe(f"{type(error).__name__}: {error}", key), 500)
