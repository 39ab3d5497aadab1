"""The demonstration: phases that run once, the page that tells what was found, and all of it with a tiny model."""

import base64
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import summary  # noqa: E402

import demo  # noqa: E402

FIGURES = {
    "model": {"uniform_nats_per_id": 4.9, "nats_per_id": 0.7, "pieces": 40, "illegal_mass": 0.002, "nats_per_note": 2.4,
              "bits_per_second": 20.0},
    "parameters": 2_000_000,
    "steps": 600,
    "floors": {"test": {"5-gram": 1.16, "13-gram": 0.89}},
    "shared_by_bach": {"median": 17.0, "most": 22},
}  # fmt: skip


def _sample(**changes):
    text = "12 notes (1 bars, 2 s) from bar 3 are those of <midi>/bwv1.6.mid from bar 1"
    return {"title": "New & good", "name": "chorale-1", "valid": True, "notes": 100, "bars": 9, "seconds": 61.0,
            "shared": 12, "shared_text": text} | changes  # fmt: skip


def test_a_phase_runs_once_for_its_key(tmp_path, capsys):
    ran = []
    for key, always, expected in (("a", False, 1), ("a", False, 1), ("a", True, 2), ("b", False, 3), ("b", False, 3)):
        ledger = demo.Ledger(tmp_path / "phases.json")  # as a new run reads it
        result = ledger.phase("work", key, lambda: ran.append(1) or {"n": len(ran)}, always)
        assert len(ran) == expected and result == {"n": expected}
    assert capsys.readouterr().out.count("done before") == 3

    def fails():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        demo.Ledger(tmp_path / "phases.json").phase("other", 1, fails)
    assert list(json.loads((tmp_path / "phases.json").read_text())) == ["work"]  # what failed is not done


def test_page_holds_pictures_figures_and_no_markup_of_others(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "loss.png").write_bytes(b"the loss")
    (tmp_path / "samples" / "chorale-1.png").write_bytes(b"the roll")
    empty = _sample(name="chorale-2", title="Silence", notes=0, shared=0)
    page = summary.Summary({"train": 325}, FIGURES, [_sample(), empty], {"train": 250.0, "evaluate": 20.0})
    text = page.html(tmp_path)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert [base64.b64decode(p) for p in pictures] == [b"the loss", b"the roll"]
    assert re.findall(r'(?:href|src)="(samples/[^"]+)"', text) == ["samples/chorale-1.mid", "samples/chorale-1.wav"]
    assert "New &amp; good" in text and "&lt;midi&gt;" in text and "<midi>" not in text
    assert "Silence has no notes" in text and "2 of 2" in text and "4:30" in text
    widths = [float(w) for w in re.findall(r"width:([\d.]+)%", text)]
    assert widths == pytest.approx([100 * n / 4.9 for n in (4.9, 1.16, 0.89, 0.7)], abs=0.06)
    table = page.text(tmp_path)
    assert re.search(r"13-gram +0\.890\n +this model +0\.700", table) and str(tmp_path / "summary.html") in table


def test_bad_arguments_end_in_a_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        demo.main(["--out", str(tmp_path), "--bogus"])
    assert stop.value.code == 2 and "--bogus" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("")
    assert demo.main(["--out", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"demo: {file}")


@pytest.mark.slow
def test_the_whole_way_with_a_tiny_model(tmp_path, monkeypatch, capsys):
    pytest.importorskip("music21", reason="music21 is not installed: no chorales to learn from")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    chosen = demo.chorales.collection()[:60]
    monkeypatch.setattr(demo.chorales, "collection", lambda: chosen)
    tiny = {"data.length": 256, "data.batch": 8, "data.transpose": "(-1,1)", "model.d_model": 32, "model.layers": 1,
            "model.heads": 2, "model.kv_heads": 2, "model.d_ff": 32, "optim.warmup": 2, "run.steps": 6,
            "run.eval_every": 3, "run.checkpoint_every": 3, "run.sample_every": 0}  # fmt: skip
    arguments = ["--out", str(tmp_path / "demo"), "--samples", "2", *(f"--config.{k}={v}" for k, v in tiny.items())]
    assert demo.main(arguments) == 0
    first = capsys.readouterr().out
    assert "4 of 4" in first and "harmonised" in first and (tmp_path / "demo" / "summary.html").stat().st_size > 10_000
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "demo").rglob("*.mid")}
    assert len(made) > 50
    assert demo.main(arguments) == 0  # nothing is done twice
    again = capsys.readouterr().out
    assert again.count("done before") == 5 and again.split("nats per token")[1].split("this run")[0] in first
    assert made == {p: p.stat().st_mtime_ns for p in (tmp_path / "demo").rglob("*.mid")}
    assert demo.main([*arguments, "--config.run.steps=9"]) == 0  # goes on from step 6
    assert "going on from" in capsys.readouterr().err
