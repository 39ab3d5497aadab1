"""Playing: every note of a score as messages in time, bars that come late, and silence however it ends."""

import collections
import contextlib
import itertools
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from scores import random_score, tune

from aurljax.cli import main
from aurljax.decode.stream import Bar, Event, events
from aurljax.errors import UserError
from aurljax.live import player
from aurljax.live import port as ports
from aurljax.live.player import Clock, Player
from aurljax.live.schedule import Schedule, of_score
from aurljax.live.timeline import Timeline, Underrun
from aurljax.music.score import Score

MILLISECOND = 1e-3


class Recorder:
    """A port that keeps what it is sent, and when."""

    def __init__(self, clock=None, fails_after=10**9):
        self.clock, self.sent, self.fails_after = clock or Clock(), [], fails_after

    def send(self, message):
        if len(self.sent) >= self.fails_after:
            raise OSError("unplugged")
        self.sent.append((self.clock.now(), message))


class Fast(Clock):
    """A clock on which time passes ten times as fast."""

    speed = 10

    def now(self):
        return self.speed * time.monotonic()

    def wait(self, until, stop):
        return stop.wait(max(0.0, until - self.now()) / self.speed)


class Faster(Fast):
    speed = 1000


def notes(timed):
    """([(channel, program, pitch, velocity, begin, end)] sorted, notes left open) of messages in time."""
    found, open_, programs = [], {}, {}
    for at, message in timed:
        status, channel = message[0] & 0xF0, message[0] & 15
        if status == 0xC0:
            programs[channel] = message[1]
        elif status == 0x90:
            assert (channel, message[1]) not in open_ and message[2] > 0
            open_[channel, message[1]] = at, programs[channel], message[2]
        elif status == 0x80:
            begin, program, velocity = open_.pop((channel, message[1]))
            found.append((channel, program, message[1], velocity, begin, at))
    return sorted(found, key=lambda n: (n[4], n[1], n[2])), open_


def bars(score, early=0):
    """The bars of a score as a stream tells them."""
    told, lines = events(None, score, numbers=list(range(len(score.tracks)))), score.bar_ticks
    edges, found = [-np.inf, *(lines[1:-1] - early), np.inf], []
    for i, (a, b) in enumerate(itertools.pairwise(lines)):
        inside = tuple(e for e in told if edges[i] <= e.tick < edges[i + 1])
        found.append(Bar(i, (a, b), tuple(score.seconds([a, b]).tolist()), inside))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_messages_are_the_notes_of_the_score(seed):
    """Over changing tempi, with as many tracks as there are channels and one of drums."""
    score = random_score(seed, 150)
    rows = score.notes[score.track < 15]
    tracks = [(int(p), i == 3) for i, p in enumerate(score.tracks["program"][:15])]
    score = score.replace(notes=rows, tracks=tracks, controls=(), names=())
    found, left = notes(of_score(score))
    begin, end = score.seconds(score.onset), score.seconds(score.onset + score.duration)
    want = sorted(zip(score.program, score.pitch, score.velocity, begin, end, score.is_drum, strict=True),
                  key=lambda n: (n[3], n[0], n[1]))  # fmt: skip
    assert not left and len(found) == len(want)
    key = [(p, n, v) for _, p, n, v, *_ in found]
    assert collections.Counter(key) == collections.Counter((p, n, v) for p, n, v, *_ in want)
    got = sorted((p, n, v, b, e, c == 9) for c, p, n, v, b, e in found)
    for a, b in zip(got, sorted(want), strict=True):
        assert a[:3] == b[:3] and a[5] == b[5] and abs(a[3] - b[3]) < MILLISECOND and abs(a[4] - b[4]) < MILLISECOND


def test_bar_by_bar_it_is_the_same():
    score = random_score(3, 150)
    schedule = Schedule()
    assert [m for bar in bars(score) for m in schedule.messages(bar.events)] == of_score(score)


def test_pedals_are_sent_and_tempi_are_kept():
    score = Score(480, notes=[(0, 960, 0, 60, 80)], tracks=[(5, False)], tempo=[(0, 500_000), (480, 1_000_000)],
                  controls=[(240, 0, 0, 64, 127)])  # fmt: skip
    assert of_score(score) == [
        (0.0, b"\xc0\x05"), (0.0, b"\x90\x3c\x50"), (0.25, b"\xb0\x40\x7f"), (1.5, b"\x80\x3c\x00")]  # fmt: skip


def test_more_tracks_than_channels_share_them_and_every_note_ends():
    """Each note sounds in its own program; a pitch that two of them sound at once ends with the later one."""
    score = Score(480, notes=[(100 * i, 100, i, 60, 80) for i in range(20)], tracks=[(i, False) for i in range(20)])
    found, left = notes(of_score(score))
    assert not left and [program for _, program, *_ in found] == list(range(20))
    assert {channel for channel, *_ in found} == set(range(16)) - {9}
    drums = Score(480, notes=[(0, 480, 0, 38, 80), (240, 480, 1, 38, 70)], tracks=[(0, True), (0, True)])
    assert [n[4:] for n in notes(of_score(drums))[0]] == [(0, 0.25), (0.25, 0.75)]


def test_what_ends_without_having_begun_is_not_sent():
    end = Event(0, 0.0, "off", 60, 0, 0, 0, False)
    assert Schedule().messages([end]) == []


def test_late_bars_move_what_follows():
    """Bars of 2 s arrive at 10, 11, 14.5 and 15 s: the third should have begun at 14."""
    timeline = Timeline()
    placed = [timeline.place(bar, now) for bar, now in zip(bars(tune(1)), (10, 11, 14.5, 15), strict=True)]
    assert [next(at for at, m in p if m[0] & 0xF0 == 0x90) for p in placed] == [10, 12, 14.5, 16.5]
    assert timeline.underruns == [Underrun(2, 0.5)]
    found, left = notes(m for p in placed for m in p)
    assert not left and len(found) == 36


def test_notes_a_little_before_the_first_bar_line_are_in_time():
    """Of music behind a prompt: micro-timing puts them before the bar that is told first."""
    score = Score(480, notes=[(1915, 400, 0, 60, 80), (1920, 400, 0, 62, 80)], tracks=[(0, False)])
    found, _ = notes(Timeline().place(bars(score, early=10)[1], 5.0))
    assert found[0][4] == 5.0 and found[1][4] - 5.0 == pytest.approx(5 / 960)


def test_a_port_hears_the_piece_while_bars_are_made():
    """On a clock ten times as fast, with one bar late; the spacing is the score's."""
    score, clock = tune(2, 3), Fast()
    port = Recorder(clock)

    def made():
        for bar in bars(score):
            if bar.number == 2:
                time.sleep(0.5)  # 5 s: the bar should have begun after 4
            yield bar

    playing, heard = Player(port, clock), []
    for bar in playing.play(made()):
        heard.append((bar.number, len(port.sent)))
    found, left = notes(port.sent)
    assert not left and len(found) == len(score) and [n for n, _ in heard] == [0, 1, 2]
    assert heard[2][1] > 30  # two bars had sounded when the third was made
    ((late, seconds),) = playing.underruns
    assert late == 2 and 0.5 < seconds < 3
    begin = np.array([n[4] for n in found]) - found[0][4]
    want = score.seconds(score.onset) + seconds * (score.onset >= 3840)
    assert np.abs(np.sort(begin) - np.sort(want)).max() < 0.5  # 50 ms of a machine that may be busy
    assert [m[:2] for _, m in port.sent[-2:]] == [b"\xb1\x40", b"\xb1\x7b"]  # pedals up, all notes off


def silent(port):
    """Whether nothing sounds after what was sent, and something had."""
    open_ = set()
    for _, m in port.sent:
        if m[0] & 0xF0 == 0x90:
            open_.add((m[0] & 15, m[1]))
        elif m[0] & 0xF0 == 0x80:
            open_.discard((m[0] & 15, m[1]))
    return not open_ and any(m[0] & 0xF0 == 0x90 for _, m in port.sent)


@pytest.mark.parametrize("why", ["error", "close", "interrupt"])
def test_every_note_ends_however_it_stops(why):
    """While notes sound that have long to go."""
    score = Score(480, notes=[(0, 480_000, 0, 60, 80), (0, 480_000, 0, 64, 80)], tracks=[(0, False)])
    (bar,) = bars(score.replace(meter=[(0, 4, 4)]))[:1]
    end = bars(score)[-1]._replace(number=1)
    port, count = Recorder(), threading.active_count()
    begun = time.monotonic()

    def made():
        yield bar
        time.sleep(0.2)
        if why == "error":
            raise ValueError("no more")
        yield end

    playing = Player(port).play(made())
    if why == "close":
        assert (next(playing), next(playing)) == (bar, end)
        playing.close()
    elif why == "error":
        with pytest.raises(ValueError, match="no more"):
            list(playing)
    else:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))  # while the last notes sound
        timer.start()
        with pytest.raises(KeyboardInterrupt), contextlib.closing(playing):
            list(playing)
    assert silent(port) and time.monotonic() - begun < 10
    assert threading.active_count() <= count + 1  # a timer that is over


def test_a_port_that_fails_is_told():
    port = Recorder(fails_after=4)
    with pytest.raises(UserError, match="takes no more: unplugged"):
        list(Player(port, Fast()).play(bars(tune(1))))
    assert len(port.sent) == 4


# ---- ports and the command ------------------------------------------------------------------------------------------

BACKEND = """
from mido.ports import BaseOutput
sent = []
NAMES = ["Midi Through", "Synth:1", "Synth:2"]
def get_devices(**kwargs):
    return [{"name": name, "is_input": False, "is_output": True} for name in NAMES]
class Output(BaseOutput):
    def _open(self, **kwargs):
        if self.name == "Synth:2":
            raise OSError("busy")
    def _send(self, message):
        sent.append((self.name, tuple(message.bytes())))
    def _close(self):
        sent.append((self.name, "closed"))
"""


@pytest.fixture
def backend(tmp_path, monkeypatch):
    """A backend of mido that lives in this process."""
    mido = pytest.importorskip("mido", reason="mido is not installed: no MIDI ports")
    (tmp_path / "memory_ports.py").write_text(BACKEND)
    monkeypatch.syspath_prepend(tmp_path)
    before = mido.backend
    mido.set_backend("memory_ports", load=True)
    yield mido.backend.module
    mido.set_backend(before)
    del sys.modules["memory_ports"]


def test_ports_are_found_by_name(backend):
    assert ports.find() == "Midi Through" and ports.find("Synth") == "Synth:1" and ports.find("Synth:2") == "Synth:2"
    with pytest.raises(UserError, match=r"no MIDI output port 'Organ'; there are 'Midi Through'"):
        ports.find("Organ")
    with pytest.raises(UserError, match="cannot be opened: busy"), ports.opened("Synth:2"):
        pass
    backend.NAMES = []
    with pytest.raises(UserError, match="there is no MIDI output port; start"):
        ports.find()


def test_the_command_plays_what_it_writes(backend, home, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(player, "Clock", Faster)
    flags = ["generate", "--checkpoint", str(home / "run"), "--out", str(tmp_path / "out"), "--seconds", "1", "--seed", "7"]
    assert main([*flags, "--density", "6-40", "--stream", "--play", "Synth"]) == 0
    assert capsys.readouterr().out.startswith("bar   1 ")
    from aurljax.music import midi

    score, sent = midi.load(tmp_path / "out/000.mid"), backend.sent
    ons = collections.Counter(m[1:] for _, m in sent[:-1] if m[0] & 0xF0 == 0x90)
    assert len(score) > 5
    assert ons == collections.Counter(zip(score.pitch.tolist(), score.velocity.tolist(), strict=True))
    assert {name for name, _ in sent} == {"Synth:1"} and sent[-1][1] == "closed"


def test_without_a_port_nothing_is_generated(home, tmp_path, capsys, monkeypatch):
    flags = ["generate", "--checkpoint", str(home / "run"), "--out", str(tmp_path / "out")]
    assert main([*flags, "--play"]) == 2
    assert "add --stream" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mido", None)  # as if it were not installed
    assert main([*flags, "--stream", "--play"]) == 2
    assert "aurljax[play]" in capsys.readouterr().err and not (tmp_path / "out").exists()
