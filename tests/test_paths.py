"""Paths of a run: buckets stay buckets, and what cannot be reached is said in one sentence."""

import sys

import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from aurljax import checkpoint, cli, paths
from aurljax.errors import UserError
from aurljax.records import journal
from aurljax.report import page


@pytest.fixture
def bucket(monkeypatch):
    """gs:// and gcs:// in memory."""

    class Bucket(MemoryFileSystem):
        protocol = ("gs", "gcs", "memory")

    for name in ("gs", "gcs"):
        monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, name, Bucket)
    return "gs://bucket/run"


def test_a_plain_path_is_made_whole_and_that_of_a_bucket_is_not(tmp_path, monkeypatch, bucket):
    monkeypatch.chdir(tmp_path)
    assert str(paths.absolute("a/b")) == f"{tmp_path}/a/b" and str(paths.named("a/b")) == "a/b"
    assert str(paths.absolute(bucket)) == str(paths.named(bucket)) == bucket
    assert not list(tmp_path.iterdir())


def test_what_is_written_to_a_bucket_is_there_and_not_here(tmp_path, monkeypatch, bucket):
    monkeypatch.chdir(tmp_path)
    folder = epath.Path(bucket)
    (folder / "checkpoints").mkdir(parents=True)
    journal.Journal(folder).write("hello")
    assert (folder / "log.txt").read_text().endswith("INFO hello\n")
    with pytest.raises(UserError, match="gs://bucket/run holds no checkpoint"):
        checkpoint.find(bucket)
    with pytest.raises(UserError, match="gs://bucket/run holds no run"):
        page.write([bucket], tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["s3://bucket/run", "memory://run", "file:///run"])
def test_what_cannot_be_reached_is_said_in_one_sentence(where, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = f"--config={cli.__file__.rsplit('/', 2)[0]}/configs/tiny.py"
    for command in (["inspect", where], ["train", tiny, "--workdir", where], ["report", where, "--out", "page.html"]):
        assert cli.main(command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and where in said
        assert ("s3fs" if where.startswith("s3") else "is no place for files here") in said
    assert not list(tmp_path.iterdir())
