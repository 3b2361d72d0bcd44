"""Exported models: read back with TensorFlow they equal Upwell's own, whole versions or none, and their files serve."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from exported import UPWELL, encoder

from upwell.agents import network
from upwell.agents.encoder import encode
from upwell.agents.encoder_parts import Events
from upwell.agents.observe import LIMIT, SEES
from upwell.cli import export as command
from upwell.errors import BadRequest, UpwellError

ROWS = 10_000
BATCHES = (1, 7, ROWS)


def test_what_is_wrong_is_said_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(BadRequest, match="--format onnx"):
        command.export(format="onnx")
    with pytest.raises(BadRequest, match="no such file"):
        command.export(policy=str(tmp_path / "none.npz"), out=tmp_path / "out")
    with pytest.raises(BadRequest, match="no such file"):
        command.export(encoder=tmp_path / "none.npz", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(command, "importable", lambda module: module != "tensorflow")
    with pytest.raises(BadRequest, match=r"`upwell export` needs tensorflow: pip install 'upwell\[export\]'"):
        command.export()


@pytest.mark.slow
def test_the_command_says_what_it_wrote(exported):
    said = exported.said
    assert said["version"] == 1
    assert said["inputs"] == ROWS
    assert said["policy"].startswith("marl-")
    names = {name: set(model["signatures"]) for name, model in said["models"].items()}
    agents = {f"{role}_agent": {"forward", "dials"} for role in SEES}
    assert names == agents | {"encoder": {"read", "fold"}}
    assert said["models"]["user_agent"]["signatures"]["forward"]["inputs"] == {"seen": "float32 [rows, 12]"}
    differences = [one["max_difference"] for model in said["models"].values() for one in model["signatures"].values()]
    assert said["max_difference"] == max(differences) <= 1e-5
    assert sorted(path.name for path in exported.folder.iterdir()) == sorted([*names, "model.config"])


@pytest.mark.slow
@pytest.mark.parametrize("role", SEES)
def test_agents_equal_the_native_policy(exported, role):
    import tensorflow as tf

    own = getattr(network.shipped("marl"), role)
    served = tf.saved_model.load(str(exported.folder / f"{role}_agent" / "1")).signatures
    seen = np.random.default_rng(7).uniform(-LIMIT, LIMIT, (ROWS, len(SEES[role]))).astype(np.float32)
    for rows in BATCHES:
        batch = tf.constant(seen[:rows])
        for name in ("forward", "serving_default"):
            found = served[name](seen=batch)["action"].numpy()
            np.testing.assert_allclose(found, network.forward(np, own, seen[:rows]), rtol=0, atol=1e-5)
        dials = served["dials"](seen=batch)
        wanted = network.dials(np, role, own, seen[:rows])
        assert dials.keys() == wanted.keys()
        for name, dial in wanted.items():
            np.testing.assert_allclose(dials[name].numpy(), dial, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_encoder_equals_whole_histories_encoded(exported):
    """Of 0 to 75 events: folded chunk by chunk and read through the signatures, against ``encode`` in one go."""
    import tensorflow as tf

    model, random, events, contents = encoder(), np.random.default_rng(7), 75, 300
    served = tf.saved_model.load(str(exported.folder / "encoder" / "1")).signatures
    shape, table = model.shape, random.normal(size=(contents, 64)).astype(np.float32) / 8
    for rows in (1, 7, *[2_500] * (ROWS // 2_500)):
        at = (rows, events)
        history = Events(
            random.integers(-1, contents, at).astype(np.int32), random.integers(0, shape.tags, at).astype(np.int32),
            random.exponential(3_600.0, at).astype(np.float32), random.exponential(20.0, at).astype(np.float32),
            random.random(at) < 0.4,
        )  # fmt: skip
        length = random.integers(0, events + 1, rows).astype(np.int32)
        folded = np.asarray(shape.folded(jnp.asarray(length)))

        def some(first, many, history=history):
            row, *others = (np.take_along_axis(x, first[:, None] + np.arange(many), 1) for x in history)
            columns = dict(zip(("tag", "gap_s", "dwell_s", "clicked"), others, strict=True))
            return columns | {"known": row >= 0, "vector": np.where((row >= 0)[..., None], table[row], 0)}

        memory = np.zeros((rows, shape.memory), np.float32)
        for chunk in range(0, folded.max(initial=0), shape.chunk):
            after = served["fold"](memory=memory, **some(np.full(rows, chunk), shape.chunk))["memory"].numpy()
            memory = np.where((chunk < folded)[:, None], after, memory)
        # What stands after the last event is not read.
        padded = Events(*(np.pad(x, ((0, 0), (0, shape.window))) for x in history))
        window = some(folded, shape.window, padded)
        found = served["read"](memory=memory, count=length - folded, **window)["encoding"].numpy()
        np.testing.assert_allclose(found, encode(model, table, history, length)[1], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_files_of_a_server_say_what_is_there(exported):
    import tensorflow as tf
    from google.protobuf import text_format
    from tensorflow_serving.apis import prediction_log_pb2
    from tensorflow_serving.config import model_server_config_pb2

    from upwell.service import batcher

    text = (exported.folder / "model.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert {one.name: one.base_path for one in config} == {name: f"/models/{name}" for name in exported.said["models"]}
    asked = set()
    for name, model in exported.said["models"].items():
        file = exported.folder / name / "1" / "assets.extra" / "tf_serving_warmup_requests"
        for record in tf.data.TFRecordDataset(str(file)):
            request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
            spec = request.model_spec
            assert spec.name == name
            assert request.inputs.keys() == model["signatures"][spec.signature_name]["inputs"].keys()
            asked.add((name, spec.signature_name, next(iter(request.inputs.values())).tensor_shape.dim[0].size))
    # Every number of rows that a batch of requests comes to, so that none waits for a compiler.
    powers = [1 << n for n in range(20) if 1 << n < 2 * batcher.MOST]
    assert {("user_agent", "forward", rows) for rows in powers} <= asked
    assert {(name, signature) for name, signature, _ in asked} == {
        (name, signature) for name, model in exported.said["models"].items() for signature in model["signatures"]
    }


@pytest.mark.slow
def test_versions_are_whole_and_count_up(tmp_path):
    from upwell.learn.export import export
    from upwell.learn.signatures import of_role

    good = of_role("user", network.first_policy(0).user)
    out, steps = tmp_path / "out", []
    assert export([good], out, 0, lambda: steps.append(1))["version"] == 1
    (out / "model.config").write_text("mine")
    (out / "user_agent" / "7").mkdir()
    (out / "user_agent" / "notes").mkdir()
    assert export([good], out, 0, lambda: steps.append(1))["version"] == 8
    assert (out / "user_agent" / "8" / "saved_model.pb").exists()
    assert (out / "model.config").read_text() == "mine"
    assert len(steps) == 2
    forward = good.signatures["forward"]
    for native, told in (
        (lambda of: {"action": forward.native(of)["action"] + 2e-5}, "user_agent, forward: differs by"),
        (lambda of: {"action": forward.native(of)["action"] * np.nan}, "differs by nan"),
        (lambda of: forward.native(of) | {"more": of["seen"]}, "outputs are action, wanted action, more"),
    ):
        wrong = good._replace(signatures={"forward": forward._replace(native=native)})
        with pytest.raises(UpwellError, match=told):
            export([wrong], out, 0, lambda: None)
    assert sorted(path.name for path in out.iterdir()) == ["model.config", "user_agent"]
    assert sorted(path.name for path in (out / "user_agent").iterdir()) == ["1", "7", "8", "notes"]


@pytest.mark.slow
def test_a_stop_leaves_nothing_half_written(tmp_path):
    out = tmp_path / "out"
    # Where tests run in the background, a child would be born deaf to Ctrl-C.
    program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {UPWELL[2]}"
    command = [sys.executable, "-c", program, "export", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 300
    while not list(out.glob(".export-*/user_agent/saved_model.pb")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    said = None
    while said is None:  # again, as a person would: Python drops one that comes while a library calls back
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, said = process.communicate(timeout=5)
    assert process.returncode == 1
    assert said.rstrip().endswith("upwell: stopped")
    assert list(out.iterdir()) == []
