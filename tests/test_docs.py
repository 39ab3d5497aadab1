"""The Python examples of README.md and docs/ run as they stand, and so does what the docs say of written files."""

import argparse
import json
import re
from pathlib import Path

import pytest
from scores import tune

import aurljax
from aurljax import commands
from aurljax.cli import main
from aurljax.evaluate import audio
from aurljax.export import provenance, validate
from aurljax.music.score import Score
from aurljax.music.theory import key

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(home, tmp_path_factory):
    """piece.mid, demo/midi, demo/corpus and demo/run, as after the demonstration, only small."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "demo").mkdir()
    for name in ("midi", "corpus", "run"):
        (folder / "demo" / name).symlink_to(home / name)
    tune(1, bars=1).replace(names=("Melody", "Bass")).save_midi(folder / "piece.mid")
    return folder


def test_there_are_examples():
    assert len([page for page in PAGES if BLOCK.search(page.read_text())]) >= 3


def pages():
    """Those with examples; where each compiles a loop of its own it takes minutes."""
    for page in PAGES:
        if BLOCK.search(page.read_text()):
            yield pytest.param(page, id=page.stem, marks=[pytest.mark.slow] if page.stem == "decoding" else [])


@pytest.mark.parametrize("page", list(pages()))
def test_examples_run(page, folder, monkeypatch):
    """Block by block in one namespace, as a reader would type them."""
    monkeypatch.chdir(folder)
    text, names = page.read_text(), {}
    if "note_sequence" in text:
        pytest.importorskip("note_seq", reason="note-seq is not installed: no NoteSequence")
    for block in BLOCK.finditer(text):
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(page), "exec"), names)


def generate(folder, out, *flags):
    checkpoint = ["--checkpoint", str(folder / "demo/run")]
    return main(["generate", *checkpoint, "--out", str(out), "--bars", "1", *flags])


def test_all_that_a_call_can_write(folder, tmp_path, capsys):
    flags = ["--seed", "3", "--prompt", str(folder / "piece.mid"), "--png", "--wav", "--html"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a/000.mid").write_text("older")
    report = str(tmp_path / "a/report.json")
    assert generate(folder, tmp_path / "a", *flags, "--overwrite", "--report", report) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path}/a/000.mid: ") and lines[0].endswith("valid") and len(lines) == 3
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["000.mid", "000.png", "000.wav", "player.html", "report.json"]
    (told,) = json.loads((tmp_path / "a/report.json").read_text())
    assert told["valid"] and told["generated"]["row"] == 0

    score, prompt = aurljax.load_midi(tmp_path / "a/000.mid"), aurljax.load_midi(folder / "piece.mid")
    assert score.resolution == 480 and score.meter["tick"][0] == 0
    assert score.names[:2] == prompt.names == ("Melody", "Bass")
    assert score.key.tolist() == [(0, *key.find(score))]
    made = provenance.read(score)
    inspected = ["inspect", str(folder / "demo/run"), "--json"]
    assert main(inspected) == 0 and json.loads(capsys.readouterr().out.splitlines()[-1])["fingerprint"] == made["model"]
    assert main(["inspect", str(folder / "piece.mid"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == made["prompt"]["digest"]
    assert made["prompt"]["name"] == "piece.mid" and (made["step"], made["seed"], made["bars"]) == (12, 3, 1)
    assert made["sampler"] == {"kind": "Sampler"} and made["aurljax"]
    (again,) = aurljax.load_model(folder / "demo/run").generate(prompt=prompt, bars=1, seed=3)
    assert provenance.name_prompt(again, "piece.mid") == score  # the command is the library


def test_nothing_is_replaced_unasked_and_nothing_is_left_of_a_failure(folder, tmp_path, capsys, monkeypatch):
    for name in ("000.mid", "000.png", "000.wav", "player.html", "report.json"):
        (tmp_path / name).write_text("mine")
        outputs = ["--png", "--wav", "--html", "--report", str(tmp_path / "report.json")]
        assert generate(folder, tmp_path, *outputs) == 2
        assert f"{name} exists" in capsys.readouterr().err
        assert [p.name for p in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audio.wave.Wave_write, "writeframes", full)  # the disk fills while the sound is written
    assert generate(folder, tmp_path, "-n", "4", "--min-p", "0.02", "--wav") == 2
    assert re.search(r"/00\d\.wav cannot be written: No space left on device", capsys.readouterr().err)
    left = list(tmp_path.iterdir())
    assert all(p.suffix == ".mid" and validate.file(p).valid for p in left) and len(left) == 4


def test_a_piece_without_notes_has_no_picture_or_sound_and_stops_no_other(tmp_path, capsys):
    args = argparse.Namespace(png=True, wav=True, html=True, out=str(tmp_path))
    scores = [Score(), tune(0, 1)]
    commands._render(args, [tmp_path / "000.mid", tmp_path / "001.mid"], scores, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["001.png", "001.wav", "player.html"]
    assert "000.mid: it has no notes" in capsys.readouterr().out
