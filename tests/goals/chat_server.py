"""A server that plays back the chat protocol: scripted status codes and recorded fixtures, no model of any kind."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """What is sent back. ``wait_s``: before it, seconds; ``cut``: the connection is closed before its end."""

    status: int = 200
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    wait_s: float = 0.0
    cut: bool = False


def completion(text: Any, tokens: int | None = 50) -> Turn:
    """A recorded fixture of the protocol (the form that llama.cpp and vLLM send), around a text of the test's."""
    usage = None if tokens is None else {"prompt_tokens": tokens - 10, "completion_tokens": 10, "total_tokens": tokens}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "recorded"}
    return Turn(body={**head, "choices": [choice], "usage": usage})


class ChatServer:
    """``turns(request)`` answers each request; ``requests`` are the bodies that came, ``keys`` their Authorization."""

    def __init__(self, turns: Callable[[dict[str, Any]], Turn]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(request)
                server.keys.append(self.headers.get("Authorization", ""))
                turn = turns(request)
                time.sleep(turn.wait_s)
                body = turn.body if isinstance(turn.body, bytes) else json.dumps(turn.body).encode()
                self.send_response(turn.status)
                for name, value in (("Content-Type", "application/json"), *turn.headers):
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # the client may have gone
                    self.wfile.write(body[: len(body) // 2] if turn.cut else body)
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@contextlib.contextmanager
def playing(turns: Callable[[dict[str, Any]], Turn]) -> Iterator[ChatServer]:
    server = ChatServer(turns)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def in_turn(*turns: Turn) -> Callable[[dict[str, Any]], Turn]:
    """One after the other; the last one again and again."""
    left = list(turns)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]
