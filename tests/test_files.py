import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.files import replacing, write_atomically


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    write_atomically(path, "old")
    write_atomically(path, "später".encode())
    assert path.read_text(encoding="utf-8") == "später"
    assert os.listdir(path.parent) == ["file"]


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for name in ("old", "new"):
        with replacing(folder) as part:
            (part / "inner").mkdir(parents=True)
            (part / "inner" / name).write_text(name)
            assert not folder.exists() or os.listdir(folder / "inner") == ["old"]
    assert os.listdir(folder / "inner") == ["new"]
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, as_folder: bool
) -> None:
    write_atomically(tmp_path / "file", "old")

    def fail() -> None:
        with replacing(tmp_path / "file") as part:
            (part.mkdir if as_folder else part.touch)()
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert (tmp_path / "file").read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    with replacing(tmp_path / "file") as part:
        name = part.name
        part.touch()
    (tmp_path / name).symlink_to(tmp_path / "precious")
    write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "precious").read_text() == "kept"


def test_the_content_is_on_the_disk_before_the_name_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def call_and_note(*arguments: object) -> None:
            done.append(name)
            call(*arguments)

        return call_and_note

    monkeypatch.setattr(os, "fsync", noted("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", noted("rename", os.replace))
    write_atomically(tmp_path / "file", b"content")
    assert done == ["fsync", "rename"]
