"""Files that are there whole or not at all."""

from __future__ import annotations

import pytest

from upwell import files


def test_a_file_is_put_with_its_folder_and_nothing_beside_it(tmp_path):
    path = tmp_path / "some" / "where" / "页面.html"
    files.put(path, "浏览")
    assert path.read_text(encoding="utf-8") == "浏览"
    files.put(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert list(path.parent.iterdir()) == [path]


def test_whoever_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "table"
    files.put(path, "before")

    def write() -> None:
        with files.whole(path) as part:
            part.write_text("half")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write()
    assert path.read_text() == "before"
