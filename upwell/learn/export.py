"""Models as versions of SavedModels, laid out for TensorFlow Serving: ``OUT/NAME/VERSION``, and ``OUT/model.config``.

Versions are written aside, read back and held against what Upwell itself works out, and only then put in their places:
a server that watches the folder never sees half of one, nor one that differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow
from google.protobuf import text_format
from orbax.export import ExportManager, JaxModule, ServingConfig
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from upwell.errors import UpwellError
from upwell.learn.signatures import Arrays, Model, Signature

tf: Any = tensorflow  # none of these says what it holds
predict: Any = predict_pb2
logs: Any = prediction_log_pb2
configs: Any = model_server_config_pb2

TOLERANCE = 1e-5
"""Most that any output may differ by."""
INPUTS, AT_ONCE = 10_000, 2_000
MOUNTED = "/models"
"""Where the image of TensorFlow Serving has models."""


def export(models: Sequence[Model], out: Path, seed: int, step: Callable[[], None]) -> dict[str, Any]:
    """Write one more version of every model, all of one number; ``step`` is called after each model.

    Raises UpwellError where an output differs by more than ``TOLERANCE``; then nothing is written.
    """
    out.mkdir(parents=True, exist_ok=True)
    version = 1 + max((v for model in models for v in versions(out / model.name)), default=0)
    told: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out) as folder:
        aside = Path(folder)
        for model in models:
            told[model.name] = written(model, aside / model.name, seed)
            step()
        for model in models:
            (out / model.name).mkdir(exist_ok=True)
            (aside / model.name).rename(out / model.name / str(version))
        config = out / "model.config"
        if not config.exists():  # else it may have been edited
            (aside / config.name).write_text(configuration(models), "utf-8")
            (aside / config.name).rename(config)
    return {
        "version": version,
        "models": {name: {"path": str(out / name / str(version)), "signatures": found} for name, found in told.items()},
        "inputs": INPUTS,
        "max_difference": max(one["max_difference"] for found in told.values() for one in found.values()),
        "config": str(config),
    }


def versions(folder: Path) -> list[int]:
    """Numbers of the versions in a model's folder."""
    return [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]


def written(model: Model, path: Path, seed: int) -> dict[str, Any]:
    """Write a model and its warm-up, read it back, and tell of its signatures. Raises UpwellError where it differs."""
    random = np.random.default_rng(seed)
    save(model, path, random)
    warm_up(model, path, random)
    found = tf.saved_model.load(str(path)).signatures
    told = {name: compared(signature, found[name], random) for name, signature in model.signatures.items()}
    for name, one in told.items():
        if not one["max_difference"] <= TOLERANCE:
            raise UpwellError(f"{model.name}, {name}: differs by {one['max_difference']:.3g} from Upwell's own")
    return told


def save(model: Model, path: Path, random: np.random.Generator) -> None:
    """The SavedModel, the number of rows free."""
    names = list(model.signatures)
    shapes = {name: signature.inputs(random, 1) for name, signature in model.signatures.items()}
    module = JaxModule(
        model.parameters,
        {name: signature.apply for name, signature in model.signatures.items()},
        trainable=False,
        input_polymorphic_shape={name: {key: "rows, ..." for key in shapes[name]} for name in names},
        jax2tf_kwargs={name: {"native_serialization_platforms": ("cpu",)} for name in names},
    )
    signatures = [
        ServingConfig(
            [name, "serving_default"] if name == names[0] else name,
            [{key: tf.TensorSpec([None, *x.shape[1:]], x.dtype, key) for key, x in shapes[name].items()}],
            method_key=name,
        )
        for name in names
    ]
    ExportManager(module, signatures).save(str(path))


def warm_up(model: Model, path: Path, random: np.random.Generator) -> None:
    """Requests that TensorFlow Serving answers to itself before it serves the version."""
    extra = path / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as file:
        for name, signature in model.signatures.items():
            for rows in signature.warm_up:
                inputs = {key: tf.make_tensor_proto(x) for key, x in signature.inputs(random, rows).items()}
                request = predict.PredictRequest(inputs=inputs)
                request.model_spec.name, request.model_spec.signature_name = model.name, name
                log = logs.PredictionLog(predict_log=logs.PredictLog(request=request))
                file.write(log.SerializeToString())


def compared(signature: Signature, served: Callable[..., Any], random: np.random.Generator) -> dict[str, Any]:
    """Inputs and outputs of a signature, and the largest difference from Upwell's own over ``INPUTS`` rows."""
    inputs, own, differences = dict[str, Any](), dict[str, Any](), list[float]()
    for _ in range(INPUTS // AT_ONCE):
        inputs = signature.inputs(random, AT_ONCE)
        own, theirs = signature.native(inputs), served(**{key: tf.constant(x) for key, x in inputs.items()})
        if own.keys() != theirs.keys():
            raise UpwellError(f"outputs are {', '.join(theirs)}, wanted {', '.join(own)}")
        differences += [np.abs(theirs[key].numpy() - x).max() for key, x in own.items()]
    return {"inputs": described(inputs), "outputs": described(own), "max_difference": float(np.max(differences))}


def described(arrays: Arrays) -> dict[str, str]:
    """Types and shapes, by name."""
    return {key: f"{x.dtype} [rows{''.join(f', {n}' for n in x.shape[1:])}]" for key, x in arrays.items()}


def configuration(models: Sequence[Model]) -> str:
    """``ModelServerConfig`` as text: every model, from where its image has them, the latest version of each."""
    config = configs.ModelServerConfig()
    for model in models:
        config.model_config_list.config.add(
            name=model.name, base_path=f"{MOUNTED}/{model.name}", model_platform="tensorflow"
        )
    return text_format.MessageToString(config)
