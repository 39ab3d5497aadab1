"""One set of files makes one corpus: whatever the workers, kills and crashes on the way; and nothing is lost unsaid."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from corpora import tree, write_folder
from scores import random_score

from aurljax.data import sources, splits, workers
from aurljax.data.corpus import MANIFEST, Corpus, CorpusError, digest
from aurljax.data.ingest import Report, ingest
from aurljax.errors import UserError
from aurljax.music import midi
from aurljax.music.score import Score

PIECES = 150  # three chunks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good files, and some that are not."""
    folder = write_folder(tmp_path_factory.mktemp("files") / "songs", PIECES, seed=3)
    (folder / "broken.mid").write_bytes(b"MThd nonsense")
    (folder / "text.mid").write_text("no music")
    (folder / "empty.mid").touch()
    (folder / "notes.txt").write_text("not even named as music")
    midi.save(Score(), folder / "silent.mid")
    shutil.copy(folder / "001.mid", folder / "deep" / "again.mid")
    midi.save(midi.load(folder / "002.mid").replace(texts=((0, "marker", "verse"),)), folder / "renamed.mid")
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """(corpus folder, report) of the files, by one worker without a pause."""
    out = tmp_path_factory.mktemp("made") / "corpus"
    return out, ingest([folder], out, workers=1)


def command(folder: Path, out: Path, count: int, before: str = "") -> list[str]:
    """An ingest in a process of its own, from a script without a main guard."""
    return [sys.executable, "-c", f"""{before}
from aurljax.data.ingest import ingest
from aurljax.errors import UserError
try: print(ingest([{str(folder)!r}], {str(out)!r}, workers={count}).pieces)
except UserError as e: print(e)"""]  # fmt: skip


# --- one corpus -------------------------------------------------------------------------------------------------------


def test_two_workers_make_what_one_makes(folder, made, tmp_path):
    seen = []
    report = ingest([folder], tmp_path / "out", workers=2, progress=lambda done, total: seen.append((done, total)))
    assert report == made[1] and tree(tmp_path / "out") == tree(made[0])
    assert sorted(tree(made[0])) == [MANIFEST, "report.json", "shard-00000.array_record"]
    assert seen[0] == (0, PIECES + 6) and seen[-1] == (PIECES + 6, PIECES + 6) and seen == sorted(seen)


def test_a_killed_ingest_goes_on(folder, made, tmp_path):
    out, kills = tmp_path / "out", 0
    for moment, alone in [(".staging", True), (".staging/*.chunk", True), (".staging/shard*", False), ("sh*", False)]:
        process = subprocess.Popen(command(folder, out, 2), start_new_session=True)
        before = set(out.glob(moment))
        while process.poll() is None and set(out.glob(moment)) <= before:
            time.sleep(0.0005)
        time.sleep(0.005 * random.random())
        with contextlib.suppress(ProcessLookupError):  # it may have ended; alone, its workers outlive it
            process.kill() if alone else os.killpg(process.pid, signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    ingest([folder], out)
    assert ingest([folder], out).unchanged
    assert tree(out) == tree(made[0])


def test_an_interrupted_ingest_keeps_what_it_parsed(folder, made, tmp_path):
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest([folder], tmp_path / "out", workers=1, progress=stop)
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".staging"]
    seen = []
    ingest([folder], tmp_path / "out", workers=1, progress=lambda done, total: seen.append(done))
    assert 0 < seen[0] < PIECES and tree(tmp_path / "out") == tree(made[0])


def test_a_full_disk_is_said_and_survived(folder, made, tmp_path):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    said = subprocess.run(command(folder, tmp_path / "out", 2, full), capture_output=True, text=True).stdout
    assert "out: cannot be written (" in said and "make room" in said
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".staging"]
    ingest([folder], tmp_path / "out", workers=1)
    assert tree(tmp_path / "out") == tree(made[0])


def test_killed_workers_are_replaced(folder, made, tmp_path):
    process = subprocess.Popen(command(folder, tmp_path / "out", 1), stdout=subprocess.PIPE, text=True)
    killed = 0
    while process.poll() is None and killed < 1:
        children = Path(f"/proc/{process.pid}/task").glob("*/children")
        for child in [int(c) for path in children for c in path.read_text().split()]:
            time.sleep(0.1)
            os.kill(child, signal.SIGKILL)
            killed += 1
    assert int(process.communicate()[0]) == made[1].pieces and killed
    assert tree(tmp_path / "out") == tree(made[0])


def test_a_finished_corpus_is_left_alone(folder, made):
    before = {p: p.stat().st_mtime_ns for p in made[0].iterdir()}
    assert ingest([folder], made[0]) == Report(**{**vars(made[1]), "unchanged": True})
    assert {p: p.stat().st_mtime_ns for p in made[0].iterdir()} == before


def test_other_files_do_not_go_into_a_finished_corpus(made, folder, tmp_path):
    songs = shutil.copytree(folder, tmp_path / "songs")
    out = shutil.copytree(made[0], tmp_path / "out")
    assert ingest([songs], out).unchanged
    with pytest.raises(UserError, match=r"out: holds a corpus of other files or splits; choose another folder"):
        ingest([songs], out, fractions=(0.1, 0.1))
    midi.save(random_score(77).replace(controls=()), songs / "003.mid")
    with pytest.raises(UserError, match="holds a corpus of other files"):
        ingest([songs], out)
    ingest([songs], tmp_path / "new")
    one, two = Corpus(out), Corpus(tmp_path / "new")
    assert one.digest != two.digest
    common = {p.id: p for p in one.pieces}
    assert sum(common.get(p.id) == p for p in two.pieces) >= len(one) - 1
    (out / "shard-00000.array_record").unlink()
    with pytest.raises(CorpusError, match=r"shard-00000\.array_record: the shard is missing"):
        ingest([folder], out)


# --- what is said -----------------------------------------------------------------------------------------------------


def test_every_file_is_a_piece_or_has_a_reason(folder, made):
    out, report = made
    corpus = Corpus(out)
    ids = [p.id for p in corpus.pieces] + list(report.skipped) + list(report.duplicates)
    assert sorted(ids) == sorted(id for id, _ in sources.find([folder])) and report.files == len(ids)
    assert [p.id for p in corpus.pieces] == sorted(p.id for p in corpus.pieces)
    assert report.duplicates == {"songs/deep/again.mid": "songs/001.mid", "songs/renamed.mid": "songs/002.mid"}
    assert sorted(report.skipped) == [f"songs/{n}.mid" for n in ("broken", "empty", "silent", "text")]
    assert report.skipped["songs/silent.mid"] == "has no notes"
    assert not any("failed" in reason for reason in report.skipped.values())
    assert all(digest(score) == piece.digest for score, piece in zip(corpus, corpus.pieces, strict=True))
    assert "empty" in report.skipped["songs/empty.mid"] and "MThd" in report.skipped["songs/text.mid"]
    assert report.splits == {s: sum(p.split == s for p in corpus.pieces) for s in ("train", "valid", "test")}
    on_disk = json.loads((out / "report.json").read_text())
    assert Report(**on_disk) == report


def test_repairs_are_counted(tmp_path):
    """Two notes of no duration in one file, one in another: two files of one kind."""
    for name, count in (("a", 2), ("b", 1)):
        events = b"".join(bytes([0, 0x90, 60 + i, 64, 0, 0x80, 60 + i, 0]) for i in range(count))
        track = events + bytes([96, 0x90, 50, 64, 96, 0x80, 50, 0, 0, 0xFF, 0x2F, 0])
        head = b"MThd" + bytes([0, 0, 0, 6, 0, 0, 0, 1, 0, 96])
        (tmp_path / f"{name}.mid").write_bytes(head + b"MTrk" + len(track).to_bytes(4, "big") + track)
        assert midi.read((tmp_path / f"{name}.mid").read_bytes())[1]
    assert list(ingest([tmp_path], tmp_path / "out").repairs.values()) == [2]


def test_ids_do_not_depend_on_how_files_are_named(folder, monkeypatch):
    whole = sources.find([folder])
    assert sources.find([folder / "**" / "*", folder]) == whole
    assert sources.find([p for id, p in whole if "deep" not in id]) == [x for x in whole if "deep" not in x[0]]
    monkeypatch.chdir(folder)
    assert sources.find(["."]) == whole
    assert {id for id, _ in whole} >= {"songs/001.mid", "songs/005.MIDI", "songs/deep/3/003.mid"}


def test_two_files_of_one_id_are_refused(tmp_path):
    for at in ("a/x", "b/x"):
        (tmp_path / at).mkdir(parents=True)
        (tmp_path / at / "1.mid").touch()
    with pytest.raises(UserError, match=r"b/x/1.mid: has the same id \(x/1.mid\) as .*a/x/1.mid"):
        sources.find([tmp_path / "a" / "x", tmp_path / "b" / "x"])
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "x" / "2.mid").symlink_to("1.mid")
    assert [id for id, _ in sources.find([tmp_path])] == [f"{tmp_path.name}/{i}/x/1.mid" for i in "ab"]


# --- splits -----------------------------------------------------------------------------------------------------------


def test_named_splits(folder, tmp_path):
    table = {"train": ["001", "songs/deep/3/003.mid", "002.mid"], "test": ["deep/again", "deep/9/009"]}
    (tmp_path / "splits.json").write_text(json.dumps(table))
    report = ingest([folder], tmp_path / "out", splits=tmp_path / "splits.json")
    found = {p.id: p.split for p in Corpus(tmp_path / "out").pieces}
    assert found == {
        "songs/002.mid": "train",
        "songs/deep/3/003.mid": "train",
        "songs/deep/again.mid": "test",
        "songs/deep/9/009.mid": "test",
    }
    assert report.duplicates == {"songs/001.mid": "songs/deep/again.mid"}  # what is tested is not trained on
    assert report.skipped["songs/004.mid"] == "not named in the splits" and report.files == PIECES + 6
    assert ingest([folder], tmp_path / "out", splits=tmp_path / "splits.json").unchanged


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("nonsense", "splits.json: not a readable JSON file of splits"),
        ('{"dev": []}', "must be an object with lists of names under train, valid, test"),
        ('{"train": "001"}', "each split must be a list of names"),
        ('{"train": ["nobody"]}', "'nobody' of split 'train' fits no file"),
        ('{"train": ["again", "1"]}', "'1' of split 'train' fits no file"),
        ('{"train": ["001"], "test": ["songs/001.mid"]}', "songs/001.mid is named twice"),
    ],
)
def test_wrong_tables_of_splits(folder, tmp_path, table, sentence):
    (tmp_path / "splits.json").write_text(table)
    with pytest.raises(UserError, match=sentence):
        ingest([folder], tmp_path / "out", splits=tmp_path / "splits.json")
    assert not (tmp_path / "out").exists()


def test_a_name_of_two_files_is_refused():
    with pytest.raises(UserError, match=r"s.json: 'x' of split 'train' fits 2 files \(a/x.mid, b/x.mid\)"):
        splits.assign(["a/x.mid", "b/x.mid"], {"train": ["x"]}, "s.json")
    assert splits.assign(["a/x.mid", "b/x.mid"], {"test": ["b/x"]}, "s.json") == {"b/x.mid": "test"}


def test_shares_by_content():
    digests = [f"{random.Random(i).getrandbits(128):032x}" for i in range(4000)]
    shares = [splits.by_content(d, (0.1, 0.2)) for d in digests]
    assert abs(shares.count("valid") - 400) < 80 and abs(shares.count("test") - 800) < 110
    assert {splits.by_content(d, (0, 0)) for d in digests} == {"train"}
    with pytest.raises(UserError, match="fractions"):
        ingest([], "out", fractions=(0.5, 0.5))


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("*.mid", r"\*.mid: no MIDI file here"),
        ("bare", "bare: no MIDI file here"),
        ("bad", r"out: not made, for none of 1 files gave music \(the first, bad/x.mid: "),
    ],
)
def test_without_music_there_is_no_corpus(tmp_path, given, sentence):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.mid").write_bytes(b"MThd")
    with pytest.raises(UserError, match=sentence):
        ingest([tmp_path / given], tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_nothing_given_is_refused(tmp_path):
    with pytest.raises(UserError, match="paths: "):
        ingest([], tmp_path / "out")


def test_a_folder_in_use_or_in_the_way_is_refused(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: exists and holds no corpus"):
        ingest([folder], tmp_path / "file")
    with pytest.raises(UserError, match=r"file/out: cannot be written \("):
        ingest([folder], tmp_path / "file" / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary").touch()
    with pytest.raises(UserError, match="full: exists and holds no corpus"):
        ingest([folder], tmp_path / "full")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["diary", "file", "full"]
    (tmp_path / "busy" / ".staging").mkdir(parents=True)
    with open(tmp_path / "busy" / ".staging" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        with pytest.raises(UserError, match="busy: another ingest is writing here"):
            ingest([folder], tmp_path / "busy")


# --- workers ----------------------------------------------------------------------------------------------------------


def run(*items, count=2, timeout=60.0):
    tasks = [{"items": list(part)} for part in items]
    results = dict(workers.run("corpora:unruly", tasks, count, timeout))
    return [results[i] for i in range(len(tasks))]


def test_results_come_for_every_task():
    assert run([1, 2], [3], [], [4]) == [[1, 4], [9], [], [16]]
    assert run() == []


def test_an_item_that_ends_its_worker_twice_is_left_out(tmp_path):
    once = str(tmp_path / "once")
    (first, second) = run([1, "crash", 3, once, "crash"], [2, 4])
    assert first == [1, "crashes its reader (-11)", 9, "survived", "crashes its reader (-11)"] and second == [4, 16]


def test_an_item_that_never_ends_is_left_out():
    assert run([1, "hang", 3], timeout=0.5) == [[1, "not read within 0.5 s", 9]]


def test_errors_of_the_function_reach_the_caller():
    with pytest.raises(OSError, match="No space left"):
        run([1], ["disk"])
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        run([1], ["bug"])
    with pytest.raises(RuntimeError, match="a worker process of nowhere:f does not start"):
        list(workers.run("nowhere:f", [{"items": [1]}], 1, 60))
