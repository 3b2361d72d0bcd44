"""A real inference engine for tests: llama.cpp with its OpenAI-compatible server, on a tiny model of random weights.

The model has Qwen2's architecture, two small layers and a vocabulary of bytes. Held to a schema it answers well-formed
absurdities (3e63194), which is what the checks behind it are for. It knows nothing and is no test of sense.

``python tests/engine.py MODEL.gguf`` serves that file and prints its URL.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import numpy as np
import pytest

WIDTH, LAYERS, INNER, CONTEXT = 64, 2, 128, 32_768
START_S = 60.0


class Engine:
    """The engine in a process of its own; ``url`` is what an OpenAI client is pointed at."""

    def __init__(self, model: Path) -> None:
        self.log = model.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(model)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()  # ends when the process does
        if not self.url:
            self.kill()
            raise RuntimeError(f"no engine: {self.log.read_text(errors='replace')[-2_000:]}")
        self.url += "/v1"
        until = time.monotonic() + START_S
        while not self.healthy():
            if time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"the engine did not get ready in {START_S:g} s")
            time.sleep(0.02)

    def healthy(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(self.url.removesuffix("/v1") + "/health", timeout=5.0).status_code == 200
        return False

    def working(self) -> bool:
        """Whether it is generating."""
        slots = httpx.get(self.url.removesuffix("/v1") + "/slots", timeout=5.0).json()
        return any(slot["is_processing"] for slot in slots)

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


def need() -> None:
    """Skips where the engine is not installed, and fails under CI=true."""
    missing = [name for name in ("xllamacpp", "gguf") if find_spec(name) is None]
    if missing:
        reason = f"no {', '.join(missing)} here"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.contextmanager
def running(folder: Path, seed: int = 0) -> Iterator[Engine]:
    """An engine on a model of this seed, written to the folder."""
    path = folder / f"tiny-{seed}.gguf"
    write_model(path, seed)
    engine = Engine(path)
    try:
        yield engine
    finally:
        engine.kill()


def write_model(path: Path, seed: int = 0) -> None:
    """A Qwen2 of random weights, under 1 MB."""
    from gguf import GGUFWriter, TokenType

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens = [*byte_tokens(), "ĠĠ", *special]
    writer = GGUFWriter(path, "qwen2")
    writer.add_name("tiny random")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(1)  # as wide as llama.cpp is quick with
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.NORMAL] * (len(tokens) - len(special)) + [TokenType.CONTROL] * len(special))
    writer.add_token_merges(["Ġ Ġ"])  # the format wants one at least
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_pad_token_id(len(tokens) - 3)
    writer.add_add_bos_token(False)
    rng = np.random.default_rng(seed)

    def matrix(name: str, out: int, into: int) -> None:
        writer.add_tensor(f"{name}.weight", (rng.standard_normal((out, into)) / np.sqrt(into)).astype(np.float32))

    def vector(name: str, value: float, size: int) -> None:
        writer.add_tensor(name, np.full(size, value, dtype=np.float32))

    matrix("token_embd", len(tokens), WIDTH)
    matrix("output", len(tokens), WIDTH)
    vector("output_norm.weight", 1.0, WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            vector(f"{block}{norm}.weight", 1.0, WIDTH)
        for name in ("attn_q", "attn_k", "attn_v"):
            matrix(block + name, WIDTH, WIDTH)
            vector(f"{block}{name}.bias", 0.0, WIDTH)
        matrix(block + "attn_output", WIDTH, WIDTH)
        matrix(block + "ffn_gate", INNER, WIDTH)
        matrix(block + "ffn_up", INNER, WIDTH)
        matrix(block + "ffn_down", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_tokens() -> list[str]:
    """A token a byte, as GPT-2 writes bytes: printable ones as themselves, the rest from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(rest)) for byte in range(256)]


def serve(model: str) -> None:
    """Serves the file on a free loopback port until killed."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.port = 0
    params.n_ctx = CONTEXT
    params.n_parallel = 4
    params.kv_unified = True  # slots share the context
    params.n_threads_http = 8
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.fit_params = False
    params.warmup = False
    params.use_jinja = False  # with it an answer that max_tokens cuts off is a status 500
    params.cache_ram_mib = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # ends with the test that started it, even where that was killed
        time.sleep(0.5)


if __name__ == "__main__":
    serve(sys.argv[1])
