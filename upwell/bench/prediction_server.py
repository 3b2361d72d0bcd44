"""A gRPC server that answers the official PredictionService by running SavedModels with TensorFlow.

It is not TensorFlow Serving, which cannot be had everywhere: it stands in for it in tests and measurements, reads the
same folder, ``model.config`` and warm-up requests, and answers the same messages. ``python -m
upwell.bench.prediction_server FOLDER PORT``; the first line on standard output says ``ready HOST:PORT``.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import tensorflow
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from upwell.service.child import follow_parent

tf: Any = tensorflow  # none of these says what it holds
predict: Any = predict_pb2
logs: Any = prediction_log_pb2
service: Any = prediction_service_pb2_grpc
configs: Any = model_server_config_pb2

THREADS = 4


class Refused(Exception):
    """A request that no model can answer."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Models:
    """The latest version of each model that ``model.config`` names."""

    def __init__(self, folder: Path) -> None:
        config = text_format.Parse((folder / "model.config").read_text("utf-8"), configs.ModelServerConfig())
        self._versions, self._models = dict[str, int](), dict[str, Any]()
        for one in config.model_config_list.config:
            base = folder / Path(one.base_path).name  # where the folder is mounted for TensorFlow Serving
            self._versions[one.name] = max(int(path.name) for path in base.iterdir() if path.name.isdecimal())
            path = base / str(self._versions[one.name])
            self._models[one.name] = tf.saved_model.load(str(path))
            for record in tf.data.TFRecordDataset(str(path / "assets.extra" / "tf_serving_warmup_requests")):
                self.answer(logs.PredictionLog.FromString(record.numpy()).predict_log.request)

    def answer(self, request: Any) -> Any:
        """What a ``PredictRequest`` gets. Raises Refused."""
        name, signature = request.model_spec.name, request.model_spec.signature_name or "serving_default"
        if name not in self._models:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no model {name}")
        if signature not in self._models[name].signatures:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"{name} has no signature {signature}")
        inputs = {key: tf.constant(tf.make_ndarray(tensor)) for key, tensor in request.inputs.items()}
        try:
            outputs = self._models[name].signatures[signature](**inputs)
        except (TypeError, tf.errors.InvalidArgumentError) as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        answer = predict.PredictResponse()
        answer.model_spec.name, answer.model_spec.signature_name = name, signature
        answer.model_spec.version.value = self._versions[name]
        for key, output in outputs.items():
            tensor = answer.outputs[key]
            tensor.dtype = output.dtype.as_datatype_enum
            for size in output.shape:
                tensor.tensor_shape.dim.add(size=size)
            tensor.float_val.extend(output.numpy().ravel())  # number by number, as TensorFlow Serving does
        return answer


class Predictions(service.PredictionServiceServicer):
    """``Predict`` alone."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        try:
            return self._models.answer(request)
        except Refused as refused:
            context.abort(refused.code, str(refused))


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=follow_parent, daemon=True).start()
    server = grpc.server(ThreadPoolExecutor(THREADS), options=(("grpc.max_receive_message_length", -1),))
    service.add_PredictionServiceServicer_to_server(Predictions(Models(folder)), server)
    address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    server.start()
    print(f"ready {address}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
