"""Removing what a failed save leaves while threads still write into it."""

import asyncio
import shutil

import pytest
from etils import epath
from orbax.checkpoint.future import CommitFutureAwaitingContractedSignals as Commit

from aurljax.survival import leftovers


async def writing(path):
    """Makes folders anew after a pause, as an item of a save does whose other item has failed, and fails too."""
    await asyncio.sleep(0.2)
    (path / "train.orbax-checkpoint-tmp" / "d").mkdir(parents=True)
    raise OSError("no room")


def test_what_orbax_still_writes_is_removed_too(tmp_path):
    path = epath.Path(tmp_path) / "8.orbax-checkpoint-tmp"
    path.mkdir()
    saving = Commit(writing(path), name="item")
    leftovers.clear(path.parent)
    with pytest.raises(OSError, match="no room"):
        saving.result()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("busy", [3, 1000])
def test_a_folder_that_fills_while_it_is_emptied_is_tried_again_for_a_while(tmp_path, monkeypatch, busy):
    tries, rmtree = iter(range(busy)), shutil.rmtree

    def full(path):
        if next(tries, None) is not None:
            raise OSError(39, "Directory not empty")
        rmtree(path)

    monkeypatch.setattr("shutil.rmtree", full)
    path = epath.Path(tmp_path / "8")
    path.mkdir()
    if busy == 3:
        leftovers.remove(path)
        assert not path.exists()
    else:
        with pytest.raises(OSError, match="not empty"):
            leftovers.remove(path, seconds=0.1)
