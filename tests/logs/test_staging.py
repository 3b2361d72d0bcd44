"""What stands at ``--out`` is replaced whole, and only by a whole data set."""

import pytest
from log_samples import GOOD, bring_in, damaged, log_file

from upwell.errors import BadRequest
from upwell.logs import importer
from upwell.logs.dataset import open_dataset
from upwell.logs.plan import plan


def test_only_a_data_set_is_ever_replaced(tmp_path):
    log = log_file(tmp_path, GOOD)
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("keep")
    with pytest.raises(BadRequest, match="choose another --out"):
        bring_in([log], out)
    assert (out / "precious.txt").read_text() == "keep"
    (out / "precious.txt").unlink()
    bring_in([log], out)
    truncated = damaged(tmp_path, "broken.csv.gz")
    with pytest.raises(BadRequest):
        bring_in([truncated], out)
    assert open_dataset(out).interactions.collect().height == 1
    log_file(tmp_path, GOOD, GOOD.replace("7,9", "8,9"))
    bring_in([log], out)
    assert open_dataset(out).interactions.collect().height == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_interrupt_leaves_nothing(tmp_path):
    log = log_file(tmp_path, GOOD)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        importer.run(plan([log], "auto", None), tmp_path / "out", interrupt)
    assert list(tmp_path.iterdir()) == [log]
