"""The policy's networks, worked out by TensorFlow Serving: one Predict for a batch; the local network where it fails.

The call blocks, for ``tfserving_ms`` at most: a slate is decided at one moment from one state, and requests that come
meanwhile are the next batch. After a failure the local network decides for a while without asking, twice as long each
time, so that a late answer costs little and a dead server one deadline a second, not one a batch.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import grpc
import numpy as np

from upwell.agents import network
from upwell.agents.network import MODEL, PUTS_OUT_AS, SEES_AS, SIGNATURE, Network, Policy
from upwell.service.settings import Settings
from upwell.service.tables import Floats

log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""Longest time for which a server that fails is not asked."""
FIRST_PAUSE = 1 / 16
"""Share of it that the first failure costs."""
TICK_S = 0.5
"""Deadline at the slow tick, which has a thread of its own and asks for all contents at once."""
SAME = 1e-3
"""Two ways of working a network out differ by less, two policies by more."""
CHANNEL = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", round(1_000 * PAUSE_S)),  # else up to two minutes after a long outage
)


@contextmanager
def bare_tensorflow() -> Generator[None]:
    """Modules of the tensorflow package can be imported, without the package's own import.

    The official messages are such modules; they take 1 MiB, the package 720 MiB that a server has no use for.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    spec, package = find_spec("tensorflow"), ModuleType("tensorflow")
    package.__path__ = list((spec and spec.submodule_search_locations) or ())
    sys.modules["tensorflow"] = package
    try:
        yield
    finally:
        del sys.modules["tensorflow"]


with bare_tensorflow():
    predict: Any = import_module("tensorflow_serving.apis.predict_pb2")
    service: Any = import_module("tensorflow_serving.apis.prediction_service_pb2_grpc")
    tensors: Any = import_module("tensorflow.core.framework.tensor_pb2")
    FLOAT: int = import_module("tensorflow.core.framework.types_pb2").DT_FLOAT


class Served:
    """A role's network where TensorFlow Serving works it out. For one thread."""

    def __init__(self, ask: Callable[..., Any], role: str, own: Network, deadline_s: float) -> None:
        self._ask, self._own, self._deadline_s = ask, own, deadline_s
        self.model = MODEL.format(role=role)
        self._again_s, self._pause_s = 0.0, 0.0  # when to ask again after a failure, and the last pause
        self._down = False
        self._version: int | None = None  # that was found to be this policy
        self.answered, self.failed, self.fallbacks = 0, 0, 0

    def __call__(self, sees: Floats) -> Floats:
        """What the network puts out, f32 ``[N, n_out]``, for what agents see ``[N, n_in]``."""
        if len(sees) and time.monotonic() >= self._again_s:
            try:
                put_out = self._answer(sees)
            except (grpc.RpcError, ValueError) as error:
                self._fail(error)
            else:
                self.answered += 1
                self._pause_s = 0.0
                if self._down:
                    log.info("%s is served again", self.model)
                    self._down = False
                return put_out
        self.fallbacks += len(sees) > 0
        return network.forward(np, self._own, sees)

    def _answer(self, sees: Floats) -> Floats:
        # Served networks are compiled for each number of rows: there are few where it is a power of two.
        rows = 1 << (len(sees) - 1).bit_length()
        padded = np.zeros((rows, sees.shape[1]), np.float32)
        padded[: len(sees)] = sees
        request = predict.PredictRequest(inputs={SEES_AS: message_of(padded)})
        request.model_spec.name, request.model_spec.signature_name = self.model, SIGNATURE
        answer = self._ask(request, timeout=self._deadline_s)
        put_out = floats_of(answer.outputs[PUTS_OUT_AS], (rows, len(self._own[-1].bias)))[: len(sees)]
        version: int = answer.model_spec.version.value
        if version != self._version:
            if np.abs(put_out - network.forward(np, self._own, sees)).max() > SAME:
                raise ValueError(f"version {version} is another policy than this server's")
            self._version = version
        return put_out

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        self._version = None
        self._pause_s = min(max(2.0 * self._pause_s, FIRST_PAUSE * PAUSE_S), PAUSE_S)
        self._again_s = time.monotonic() + self._pause_s
        if self._pause_s == PAUSE_S and not self._down:  # once an outage, and not for a late answer now and then
            why = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else error
            log.warning("%s is not served (%s): the local policy decides", self.model, why)
            self._down = True


def message_of(array: Floats) -> Any:
    """A ``TensorProto`` of an f32 array."""
    message = tensors.TensorProto(dtype=FLOAT, tensor_content=array.tobytes())
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    return message


def floats_of(message: Any, shape: tuple[int, ...]) -> Floats:
    """The f32 array of a ``TensorProto``. Raises ValueError unless it is finite, and of this shape."""
    told = tuple(dim.size for dim in message.tensor_shape.dim)
    # TensorFlow Serving sends numbers one by one unless it is told otherwise.
    flat = np.frombuffer(message.tensor_content, np.float32) if message.tensor_content else message.float_val
    values = np.asarray(flat, np.float32)
    if message.dtype != FLOAT or told != shape or values.size != np.prod(shape):
        raise ValueError(f"it answers with type {message.dtype} of shape {told}, wanted {FLOAT} of {shape}")
    if not np.isfinite(values).all():
        raise ValueError("it answers with numbers that are not finite")
    return values.reshape(shape)


def served(settings: Settings, policy: Policy) -> dict[str, Served]:
    """Each role's network, at the server that the settings name."""
    channel = grpc.insecure_channel(settings.tfserving, CHANNEL)
    connected = grpc.channel_ready_future(channel)  # so that no request waits for it
    with suppress(grpc.FutureTimeoutError):
        connected.result(PAUSE_S)
    connected.cancel()
    ask = service.PredictionServiceStub(channel).Predict
    deadline_s = settings.tfserving_ms / 1_000
    return {
        role: Served(ask, role, own, deadline_s if role == "user" else max(deadline_s, TICK_S))
        for role, own in policy._asdict().items()
    }
