"""What pictures and sounds show: pixels where notes are, the frequency of what is played."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from aurljax.errors import UserError
from aurljax.evaluate import audio
from aurljax.music.score import Score

pytest.importorskip("matplotlib", reason="matplotlib is not installed: no pictures")
from aurljax.evaluate import pictures


def _piece():
    rng = np.random.default_rng(0)
    notes = [(240 * i, 230, i % 3, 48 + 5 * (i % 3) + int(rng.integers(5)), 30 + i) for i in range(60)]
    drums = [(480 * i, 100, 3, 36 + 6 * (i % 2), 90) for i in range(32)]
    tracks = [(0, False), (40, False), (73, False), (0, True)]
    return Score(notes=notes + drums, tracks=tracks, names=("Piano", "Violin"), meter=[(0, 3, 4), (4320, 4, 4)])


def test_every_note_has_its_rectangle():
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    score = _piece()
    figure = pictures.draw_roll(score, "Title", bars_per_row=4)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    y, drums = pictures.heights(score)
    assert set(drums) == {36, 42} and max(drums.values()) < score.pitch[~score.is_drum].min()
    lines = score.bar_ticks
    assert len(figure.axes) == -(-(len(lines) - 1) // 4)
    paper = np.array(matplotlib.colors.to_rgb(pictures.PAPER))
    taken = {(int(o), int(h)) for o, h in zip(score.onset, y, strict=True)}
    for row, note in enumerate(score.notes):
        axes = next(a for a in figure.axes if a.get_xlim()[0] <= note["onset"] < a.get_xlim()[1])
        face = np.array(matplotlib.colors.to_rgb(pictures._colour(score, note["track"])))
        strength = 0.45 + 0.55 * min(note["velocity"] / 90, 1)
        x, up = axes.transData.transform((note["onset"] + 40, y[row] + 0.5))
        np.testing.assert_allclose(pixels[len(pixels) - 1 - int(up), int(x)], 1 - strength * (1 - face), atol=0.01)
        for beside in {-1, 1} - {h - y[row] for o, h in taken if abs(o - note["onset"]) < 480}:
            up = axes.transData.transform((0, y[row] + 0.5 + beside))[1]
            assert pixels[len(pixels) - 1 - int(up), int(x)].min() > 0.85, "a note is one semitone high"
    first = figure.axes[0]
    x, up = first.transData.transform((300, score.pitch[~score.is_drum].max() + 1.5))  # above all notes: nothing
    assert np.abs(pixels[len(pixels) - 1 - int(up), int(x)] - paper).max() < 0.07
    numbers = [[t.get_text() for t in axes.texts if t.get_text().isdigit()] for axes in figure.axes]
    assert numbers == [["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"]]  # nine bars: rows of one length
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["Piano", "Violin", "track 3", "drums"]


def test_a_change_is_drawn_over_outlines_of_what_was():
    """The upper picture has every note that sounds in its bars, the lower one those that are left and an outline each."""
    score = _piece()
    after = score.replace(notes=score.notes[score.track != 1])
    figure = pictures.draw_change(score, after, "Title", bars=(1, 3))
    above, below = figure.axes
    lines = score.bar_ticks[1:4]
    assert above.get_xlim() == below.get_xlim() == (lines[0], lines[-1])

    def sounding(s):
        return ((s.onset < lines[-1]) & (s.onset + s.duration > lines[0])).sum()

    def notes(axes):
        return max(len(c.get_paths()) for c in axes.collections if c.get_zorder() == 3)

    assert (notes(above), notes(below)) == (sounding(score), sounding(after)) and sounding(after) < sounding(score)
    assert (len(above.patches), len(below.patches)) == (0, sounding(score))
    with pytest.raises(UserError, match="one resolution"):
        pictures.draw_change(score, score.replace(resolution=96))


def test_preprocessing_is_shown(tmp_path, capsys):
    from aurljax.cli import main

    chords = [(480 * i, 480, 0, pitch, 80) for i in range(8) for pitch in (48, 55, 64)]
    Score(notes=chords, tracks=[(0, False)]).save_midi(tmp_path / "piece.mid")
    tiny = f"--config={Path(__file__).parent.parent / 'configs/tiny.py'}"
    command = ["corpus", "--show", str(tmp_path / "piece.mid"), "--out", str(tmp_path / "out")]
    assert main([*command, tiny, "--config.data.preprocess.polyphony=1"]) == 0
    assert "24 notes, 8 after, 16 thinned" in capsys.readouterr().out
    assert (tmp_path / "out/piece.png").read_bytes()[:4] == b"\x89PNG"
    for wrong, words in (([*command, tiny], "exists"), (command, "--show needs"), (["corpus"], "CORPUS")):
        assert main(wrong) == 2
        assert words in capsys.readouterr().err


def test_pictures_are_files(tmp_path):
    pictures.piano_roll(_piece(), tmp_path / "roll.png")
    records = [{"step": i, "loss": 6 / i} for i in range(1, 40)] + [{"step": 30, "valid_loss": 0.3}]
    pictures.loss_curve(records, tmp_path / "loss.png", {"5-gram": 1.0, "9-gram": 0.98, "uniform": 4.0})
    for name in ("roll.png", "loss.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads(json.dumps(records))  # what metrics.jsonl holds


def test_what_cannot_be_drawn(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="without notes"):
        pictures.piano_roll(Score(), tmp_path / "x.png")
    with pytest.raises(UserError, match="no record"):
        pictures.loss_curve([{"step": 1}], tmp_path / "x.png")
    with pytest.raises(UserError, match="gone"):
        pictures.piano_roll(_piece(), tmp_path / "gone" / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"aurljax\[pictures\]"):
        pictures.piano_roll(_piece(), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def _frequency(sound):
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 4 * len(sound)))
    return spectrum.argmax() * audio.RATE / (4 * len(sound))


@pytest.mark.parametrize("program", [0, 19, 32, 40, 52, 73, 88])
@pytest.mark.parametrize("pitch, hertz", [(69, 440.0), (57, 220.0)])
def test_a_note_has_its_frequency(program, pitch, hertz):
    """The strongest partial lies within 6 cents: voices stand 4 cents apart, a window of 2 s tells 1 or 2."""
    sound = audio.render(Score(notes=[(0, 1920, 0, pitch, 80)], tracks=[(program, False)])).mean(1)
    heard = _frequency(sound)
    partial = max(round(heard / hertz), 1)
    assert abs(1200 * np.log2(heard / (partial * hertz))) < 6
    assert partial == 1 or program == 52  # a throat makes another partial the strongest


def test_length_level_and_sides():
    left = [(960 * i, 480, 0, 60 + i, 100) for i in range(4)]
    right = [(960 * i, 480, 1, 48 + i, 100) for i in range(4)]
    late = Score(notes=[(o + 4800, *rest) for o, *rest in left + right], tracks=[(52, False), (19, False)])
    sound = audio.render(late)
    assert sound.shape == (int((3 * 1.0 + 0.5 + 2.5) * audio.RATE), 2)  # from the first note on
    assert np.isfinite(sound).all() and np.abs(sound).max() == pytest.approx(audio.PEAK, abs=1e-6)
    energy = (audio.render(late.replace(notes=[*left, (0, 1, 1, 40, 1)])) ** 2).sum(0)
    assert energy[0] > 1.5 * energy[1]
    rests = [np.abs(sound[int(t * audio.RATE) :][:2000]).max() for t in (0.25, 0.95, 1.25, 1.95)]
    assert min(rests[0], rests[2]) > 3 * max(rests[1], rests[3])  # loud while held, faded before the next
    assert np.abs(sound[-200:]).max() < 1e-3 and np.abs(np.diff(sound, axis=0)).max() < 0.3  # ends quietly, no click


def test_drums_and_extremes_do_not_clip():
    notes = [(120 * i, 60, 0, i, 127) for i in range(128)] + [(i, 1, 1, i, 1 + i % 127) for i in range(128)]
    for programs in ((0, 127), (52, 0), (112, 96)):
        sound = audio.render(Score(notes=notes, tracks=[(programs[0], True), (programs[1], False)]))
        assert np.isfinite(sound).all() and np.abs(sound).max() <= audio.PEAK + 1e-6


def test_wav_file_is_what_was_rendered(tmp_path):
    score = _piece()
    audio.save_wav(score, tmp_path / "a.wav")
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, audio.RATE)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    np.testing.assert_allclose(samples / 32767, audio.render(score), atol=1 / 32767)
    with pytest.raises(UserError, match=r"gone/a\.wav"):
        audio.save_wav(score, tmp_path / "gone" / "a.wav")
    with pytest.raises(UserError, match="without notes"):
        audio.save_wav(Score(), tmp_path / "b.wav")
    assert not (tmp_path / "b.wav").exists()
