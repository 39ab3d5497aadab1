"""The command, as a user meets it: the whole way in a minute, and one readable sentence for every bad input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scores import random_score, tune

import aurljax
from aurljax.cli import main
from aurljax.evaluate import infilling
from aurljax.music.score import Score

ROOT = Path(__file__).parents[1]
TINY = str(ROOT / "configs/tiny.py")


def generate(home, out, *flags):
    return main(["generate", "--checkpoint", str(home / "run"), "--out", str(out), *flags])


def test_the_whole_way(home, tmp_path, capsys):
    assert generate(home, tmp_path / "a", "-n", "2", "--seed", "7", "--check", str(home / "corpus")) == 0
    printed = capsys.readouterr().out
    assert generate(home, tmp_path / "b", "-n", "1", "--seed", "7") == 0
    assert generate(home, tmp_path / "c", "-n", "1", "--seed", "8") == 0
    first = (tmp_path / "a/000.mid").read_bytes()
    assert first == (tmp_path / "b/000.mid").read_bytes() != (tmp_path / "c/000.mid").read_bytes()
    assert str(tmp_path / "a/001.mid") in printed and "notes" in printed
    assert "shared with the corpus" in printed
    aurljax.load_midi(tmp_path / "a/000.mid").check()
    asked = ["--seed", "7", "--temperature", "1.2:0.8", "--repetition", "1.3:8", "--kind", "pitch:top-p=0.9"]
    assert generate(home, tmp_path / "d", *asked, "--best-of", "2") == 0
    assert generate(home, tmp_path / "e", *asked) == 0
    capsys.readouterr()
    assert generate(home, tmp_path / "f", *asked, "--stream") == 0
    assert (tmp_path / "e/000.mid").read_bytes() == (tmp_path / "f/000.mid").read_bytes()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("bar   1     0.0 s ") and "p95" in lines[-2]
    assert generate(home, tmp_path / "g", "--stream", "-n", "2") == 2
    assert "leave out -n" in capsys.readouterr().err and not (tmp_path / "g").exists()
    assert (home / "run/metrics.jsonl").exists() and list((home / "run/tensorboard").iterdir())
    assert list((home / "run/samples").glob("*.mid"))
    written = {name for line in (home / "run/metrics.jsonl").read_text().splitlines() for name in json.loads(line)}
    assert {"sample_notes", "sample_repetition", "sample_entropy", "sample_empty"} <= written


def test_a_prompt_is_continued(home, tmp_path):
    tune(3, bars=1).save_midi(tmp_path / "p.mid")
    for out in ("a", "b"):
        assert generate(home, tmp_path / out, "--prompt", str(tmp_path / "p.mid"), "--bars", "1") == 0
    assert (tmp_path / "a/000.mid").read_bytes() == (tmp_path / "b/000.mid").read_bytes()
    score, prompt = aurljax.load_midi(tmp_path / "a/000.mid"), aurljax.load_midi(tmp_path / "p.mid")
    assert np.array_equal(
        score.notes[: len(prompt)][["onset", "pitch", "track"]], prompt.notes[["onset", "pitch", "track"]]
    )
    assert 2 <= aurljax.codec("score").bars(score) + 1 <= 3


def test_evaluate(home, capsys):
    flags = ["--checkpoint", str(home / "run"), "--corpus", str(home / "corpus")]
    assert main(["evaluate", *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pieces"] == 2 and found["legal_nats_per_id"] < found["nats_per_id"] < np.log(864)
    assert main(["evaluate", *flags, "--split", "test"]) == 0
    assert "nats per note" in capsys.readouterr().out
    model = aurljax.load_model(home / "run")
    corpus = aurljax.Corpus(home / "corpus")
    nats = sum(model.score(corpus[i]) for i in corpus.split("valid"))
    assert nats == pytest.approx(found["nats_per_id"] * found["ids"], rel=1e-5)


def test_evaluate_what_the_bars_behind_are_worth(home, capsys):
    flags = ["evaluate", "--checkpoint", str(home / "run"), "--corpus", str(home / "corpus"), "--infill"]
    assert main([*flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    corpus = aurljax.Corpus(home / "corpus")
    scores = [corpus[i] for i in corpus.split("valid")]
    assert found == infilling.of_scores(aurljax.load_model(home / "run"), scores).summary() and found["notes"] > 0
    assert main(flags) == 0
    told = capsys.readouterr().out
    assert f"{found['pieces']} pieces of valid" in told and f"{found['left_nats_per_note']:.4f}" in told
    assert ("left out" in told) == (found["pieces"] < len(scores))


def test_training_again_goes_on(home, tmp_path, capsys):
    shutil.copytree(home / "run", tmp_path / "run")
    tree = json.loads((tmp_path / "run/config.json").read_text())
    flags = [
        f"--config.{s}.{k}={v}"
        for s in ("data", "run", "mesh")
        for k, v in tree[s].items()
        if k not in ("transpose", "steps")
    ]
    flags += ["--config.codec.options.infill=True", "--config.model.layers=1"]
    train = ["train", f"--config={TINY}", *flags, "--workdir", str(tmp_path / "run")]
    assert main([*train, "--config.run.steps=14"]) == 0
    assert "going on from" in capsys.readouterr().err
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 14 and steps == sorted(steps)


@pytest.mark.parametrize("case", [
    "corrupt prompt", "empty prompt", "no prompt", "long prompt", "held prompt", "zero bars", "negative n",
    "bad top-p", "no checkpoint", "not a checkpoint", "truncated", "flipped", "no corpus", "no split", "empty folder",
    "nothing readable", "no such path", "unknown field", "wrong value", "workdir is a file", "batch and mesh",
    "too many devices", "no config", "other model", "codec", "out exists", "out is a file", "bad splits",
    "unknown limit", "bad limit", "bad beats",
])  # fmt: skip
def test_bad_input_is_one_sentence(case, home, tmp_path, capsys):
    run, corpus, out = str(home / "run"), str(home / "corpus"), str(tmp_path / "out")
    (tmp_path / "bad.mid").write_bytes(b"MThd\0\0\0\6\0\1\0\1\1\xe0MTrk garbage" if case != "empty prompt" else b"")
    tune(0, bars=12).save_midi(tmp_path / "long.mid")
    Score(notes=[(0, 9600, 0, 60, 64)], tracks=[(0, False)]).save_midi(tmp_path / "held.mid")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("not a folder")
    if case in ("truncated", "flipped", "codec"):
        shutil.copytree(home / "run", tmp_path / "run")
        biggest = max(
            (p for p in (tmp_path / "run/checkpoints").glob("*/params/**/*") if p.is_file()),
            key=lambda p: p.stat().st_size,
        )
        content = bytearray(biggest.read_bytes())
        content[len(content) // 2] ^= 1
        biggest.write_bytes(content[: len(content) // 2] if case == "truncated" else content)
    prompt = ["generate", "--checkpoint", run, "--out", out, "--prompt"]
    plain = ["generate", "--checkpoint", run, "--out", out]
    train = ["train", f"--config={TINY}", f"--config.data.corpus={corpus}", "--config.model.layers=1", "--workdir", out]
    command, named = {
        "corrupt prompt": ([*prompt, str(tmp_path / "bad.mid")], "bad.mid"),
        "empty prompt": ([*prompt, str(tmp_path / "bad.mid")], "bad.mid"),
        "no prompt": ([*prompt, str(tmp_path / "none.mid")], "none.mid"),
        "long prompt": ([*prompt, str(tmp_path / "long.mid")], "prompt"),
        "held prompt": ([*prompt, str(tmp_path / "held.mid"), "--polyphony", "1"], "sound through bar 2"),
        "unknown limit": (["ingest", str(home / "midi"), "--out", out, "--limit", "pages=3"], "--limit pages=3"),
        "bad limit": (["ingest", str(home / "midi"), "--out", out, "--limit", "notes=many"], "--limit notes=many"),
        "bad beats": (["ingest", str(tmp_path), "--out", out, "--beats", "none.txt"], out),
        "zero bars": ([*plain, "--bars", "0"], "--bars"),
        "negative n": ([*plain, "-n", "-1"], "-n"),
        "bad top-p": ([*plain, "--top-p", "0"], "top_p"),
        "no checkpoint": (["generate", "--checkpoint", str(tmp_path / "none"), "--out", out], "none"),
        "not a checkpoint": (["generate", "--checkpoint", str(tmp_path / "empty"), "--out", out], "empty"),
        "truncated": (["generate", "--checkpoint", str(tmp_path / "run"), "--out", out], "run/checkpoints"),
        "flipped": (["generate", "--checkpoint", str(tmp_path / "run"), "--out", out], "run/checkpoints"),
        "no corpus": (["evaluate", "--checkpoint", run, "--corpus", str(tmp_path / "none")], "none"),
        "no split": (["evaluate", "--checkpoint", run, "--corpus", corpus, "--split", "vlaid"], "vlaid"),
        "empty folder": (["ingest", str(tmp_path / "empty"), "--out", out], "empty"),
        "nothing readable": (["ingest", str(tmp_path / "bad.mid"), "--out", out, "--workers", "1"], "bad.mid"),
        "no such path": (["ingest", str(tmp_path / "none"), "--out", out], "none"),
        "unknown field": ([*train, "--config.optim.learning_rat=1"], "learning_rate"),
        "wrong value": ([*train, "--config.run.steps=many"], "run.steps"),
        "workdir is a file": ([*train[:-1], str(tmp_path / "file")], "file"),
        "batch and mesh": ([*train, "--config.mesh.data=3"], "data.batch"),
        "too many devices": ([*train, "--config.mesh.data=64"], "64"),
        "no config": (["train", "--config=configs/tinny.py", "--workdir", out], "tinny.py"),
        "other model": ([*train[:-1], run, "--config.model.d_model=64"], "d_model"),
        "codec": ([*train[:-1], str(tmp_path / "run"), "--config.codec.options.microtiming=true"], "codec"),
        "out exists": ([*plain[:-1], str(tmp_path / "taken")], "000.mid"),
        "out is a file": ([*plain[:-1], str(tmp_path / "file")], "file"),
        "bad splits": (["ingest", str(home / "midi"), "--out", out, "--splits", str(tmp_path / "file")], "file"),
    }[case]  # fmt: skip
    if case == "out exists":
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken/000.mid").write_bytes(b"mine")
    before = {p for p in tmp_path.rglob("*")}
    try:
        status = main(command)
    except SystemExit as stop:  # argparse
        status = stop.code
    printed = capsys.readouterr().err.strip().splitlines()
    assert status == 2, printed
    assert named in printed[-1] and len(printed[-1]) < 500
    assert "Traceback" not in "".join(printed)
    left = {str(p.relative_to(tmp_path)) for p in set(tmp_path.rglob("*")) - before}
    assert not [p for p in left if p.endswith(".mid") or "manifest" in p or "checkpoints/" in p], left
    if case == "out exists":
        assert (tmp_path / "taken/000.mid").read_bytes() == b"mine"


def test_what_is_imported():
    """--help imports no jax; generating imports no note-seq, matplotlib, tensorboard or grain."""
    script = (
        "import sys; from aurljax.cli import main\ntry: main(['--help'])\nexcept SystemExit as e: assert not e.code\n"
    )
    heavy = (
        "sorted({'jax', 'numpy', 'orbax', 'grain', 'note_seq', 'matplotlib'} & {m.split('.')[0] for m in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", script + f"print({heavy})"], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    script = "import sys, aurljax.model, aurljax.cli, aurljax.music.midi, aurljax.evaluate.likelihood\n"
    unused = "{'note_seq', 'matplotlib', 'grain', 'tensorboardX', 'music21'}"
    run = subprocess.run([sys.executable, "-c", script + f"print(sorted({unused} & set(sys.modules)))"],
                         capture_output=True, text=True, check=True)  # fmt: skip
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("flags", [["--nonsense"], ["train", "--nonsense"], ["generate", "--config.a=1"], []])
def test_bad_flags_exit_2(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        main(flags)
    assert stop.value.code == 2
    capsys.readouterr()


def test_random_scores_survive_the_public_api(tmp_path):
    score = random_score(4, 60)
    codec = aurljax.codec("score", microtiming=True)
    back = codec.decode(codec.encode(score))
    back.save_midi(tmp_path / "x.mid")
    again = aurljax.load_midi(tmp_path / "x.mid")
    kept = sorted(set(back.track.tolist()))  # a MIDI file cannot say that a silent track exists
    assert np.array_equal(again.notes["pitch"], back.notes["pitch"]) and len(again.tracks) == len(kept)
