"""The cache keeps to its limit, gives up what was used longest ago, and never what somebody reads."""

import fcntl
import os
import subprocess
import sys

import pytest
from corpora import make_corpus

from aurljax.data import cache
from aurljax.data.corpus import Corpus
from aurljax.errors import UserError


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("AURLJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_held", {})


def fill(**bytes: int) -> None:
    """Entries of so many bytes, used one second after another long ago."""
    for i, (name, size) in enumerate(bytes.items()):
        cache.write(f"windows/{name}", b"x" * size)
        os.utime(cache.folder() / "windows" / name, (1000 + i, 1000 + i))


def names() -> set[str]:
    return {p.name for p in cache.folder().rglob("*") if p.is_file()}


@pytest.mark.parametrize(("most", "left"), [(60, "abc"), (59, "bc"), (50, "bc"), (49, "c"), (29, ""), (0, "")])
def test_what_was_used_longest_ago_goes_first_and_no_more_than_needed(most, left):
    fill(a=10, b=20, c=30)
    cache.trim(most)
    assert names() == set(left)


def test_reading_is_a_use():
    fill(a=10, b=20, c=30)
    assert cache.read("windows/a") == b"x" * 10 and cache.read("windows/z") is None
    cache.trim(40)
    assert names() == {"a", "c"}


def test_writing_keeps_to_the_limit_of_the_environment(monkeypatch):
    monkeypatch.setenv("AURLJAX_CACHE_BYTES", "45")
    fill(a=10, b=20, c=30)
    assert names() == {"c"}
    monkeypatch.setenv("AURLJAX_CACHE_BYTES", "10 GB")
    with pytest.raises(UserError, match="AURLJAX_CACHE_BYTES=10 GB must be a whole number of bytes"):
        cache.trim()


def test_drafts_stay_while_they_are_new_and_programs_are_not_ours():
    fill(a=10)
    for name in ("windows/.new.part", "windows/.old.part", "jit_step"):
        (cache.folder() / name).write_bytes(b"x" * 100)
    os.utime(cache.folder() / "windows/.old.part", (1000, 1000))
    cache.trim(0)
    assert names() == {".new.part", "jit_step"}


def test_what_this_process_holds_stays_and_is_made_once():
    made = []
    path = cache.hold("shards/d/one", lambda: made.append(1) or b"x" * 50)
    assert path == cache.hold("shards/d/one", lambda: pytest.fail("made again"))
    os.utime(path, (1, 1))
    fill(a=10)
    cache.trim(0)
    assert names() == {"one"} and made == [1] and path.read_bytes() == b"x" * 50


def test_what_alone_is_beyond_the_limit_is_held_all_the_same(monkeypatch):
    monkeypatch.setenv("AURLJAX_CACHE_BYTES", "20")
    fill(a=10)
    assert cache.hold("shards/d/one", lambda: b"x" * 50).exists() and names() == {"one"}


def test_what_another_process_holds_stays_until_it_ends():
    fill(a=10)
    code = (
        "from aurljax.data import cache; cache.hold('shards/d/one', lambda: b'x' * 50);"
        "print('held', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        cache.trim(0)
        assert names() == {"one"}
        other.communicate(b"\n")
    cache.trim(0)
    assert names() == set()


def test_what_another_process_added_first_is_taken():
    path = cache.folder() / "shards/d/one"
    seen = []

    def make() -> bytes:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"theirs")
        seen.append(path.stat().st_ino)
        return b"ours"

    assert cache.hold("shards/d/one", make).read_bytes() == b"theirs" and [path.stat().st_ino] == seen


@pytest.mark.parametrize("lock", [fcntl.LOCK_SH, fcntl.LOCK_EX | fcntl.LOCK_NB])
def test_a_file_that_changes_hands_before_it_is_locked_is_not_taken_for_the_one_opened(monkeypatch, lock):
    """Another process removes it, or puts a new one there, between opening and locking."""
    path, before = cache.hold("shards/d/one", lambda: b"x"), fcntl.flock
    os.close(cache._held.pop(str(path)))

    def late(file, operation):
        if operation == lock:
            monkeypatch.setattr(fcntl, "flock", before)
            path.rename(path.parent / "gone")
            if lock != fcntl.LOCK_SH:
                path.write_bytes(b"new")
        before(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    if lock == fcntl.LOCK_SH:
        assert cache.hold("shards/d/one", lambda: b"again").read_bytes() == b"again"
    else:
        cache._remove(path)
        assert path.read_bytes() == b"new"


def test_processes_that_hold_and_trim_at_once_lose_nothing():
    """Each makes, holds and reads entries while the others make room for none."""
    code = """
import random, sys, time
from aurljax.data import cache
end, held = time.monotonic() + 1.5, {}
random.seed(int(sys.argv[1]))
while time.monotonic() < end:
    i = random.randrange(40)
    data = bytes([i]) * 100
    if random.random() < 0.05:
        held[cache.hold(f"shards/d/{i}", lambda: data)] = data
    elif random.random() < 0.5:
        cache.write(f"windows/{i}", data)
    else:
        assert cache.read(f"windows/{i}") in (None, data)
    assert all(path.read_bytes() == data for path, data in held.items())
print(len(held))"""
    environment = {**os.environ, "AURLJAX_CACHE_BYTES": "0"}
    commands = [[sys.executable, "-c", code, str(seed)] for seed in range(3)]
    others = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for command in commands]
    found = [other.communicate()[0] for other in others]
    assert [other.returncode for other in others] == [0] * 3 and all(int(f) > 3 for f in found)


def test_shards_of_a_bucket_are_copied_held_and_copied_again(tmp_path, monkeypatch):
    corpus = make_corpus(tmp_path, 5, fractions=(0, 0))
    bucket = type("Bucket", (type(corpus.path),), {"__str__": lambda self: "gs://bucket/" + self.name})
    monkeypatch.setattr(Corpus, "_shard", lambda self, i: bucket(self.path / self.manifest["shards"][i]["name"]))
    read = Corpus(corpus.path)
    wanted = [corpus[i] for i in range(5)]
    assert [read[i] for i in range(5)] == wanted
    cache.trim(0)
    assert names() == {"shard-00000.array_record"} and [read[i] for i in range(5)] == wanted
    (kept,) = (cache.folder() / "shards" / corpus.digest).iterdir()
    kept.unlink()
    cache._held.clear()
    assert [Corpus(corpus.path)[i] for i in range(5)] == wanted and kept.exists()
