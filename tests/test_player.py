"""The player: what its data say, and what it does in a real browser, where one is found."""

import base64
import json
import re

import browser
import numpy as np
import pytest
from scores import random_score

from aurljax.errors import UserError
from aurljax.export import player, provenance
from aurljax.export.finish import finish
from aurljax.music import midi, pedal
from aurljax.music.score import Score

TITLE = "</script><b>Ode & “joy”"


def piece() -> Score:
    """Four bars of 3/4 in three tracks, the last of drums, at a wandering tempo; 38 notes."""
    notes = [(480 * i, 400, 0, 60 + (5 * i) % 12, 50 + 5 * i) for i in range(12)]
    notes += [(1440 * i, 1400, 1, 43 + i, 90) for i in range(2)]
    drums = [(240 * i, 30, 2, (36, 42, 38, 42)[i % 4], 100) for i in range(24)]
    tempo = [(0, 500_000), (1440, 400_000), (2880, 600_000)]
    score = Score(notes=notes + drums, tracks=[(52, False), (32, False), (0, True)], names=("Voice", "", "Kit"),
                  tempo=tempo, meter=[(0, 3, 4)], meta={"title": TITLE})  # fmt: skip
    return provenance.attach(finish(score), {"model": "0f3", "seed": 4, "sampler": {"min_p": 0.02}})


def data(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


# --- what the page is given -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_page_holds_the_music_and_its_file(seed):
    score = finish(random_score(seed, 80))
    page = player.page([player.Piece("x.mid", score), player.Piece("y.mid", piece())])
    first, second = data(page)["pieces"]
    notes = first["notes"]
    np.testing.assert_allclose(notes["start"], score.seconds(score.onset), atol=6e-5)
    np.testing.assert_allclose(notes["end"], score.seconds(score.onset + score.duration), atol=6e-5)
    assert notes["pitch"] == score.pitch.tolist() and notes["velocity"] == score.velocity.tolist()
    assert notes["start"] == sorted(notes["start"]) and set(map(len, notes.values())) == {len(score)}
    assert base64.b64decode(first["midi"]) == midi.dumps(score)
    np.testing.assert_allclose(first["bars"], score.seconds(score.bar_ticks), atol=6e-5)
    assert second["title"] == TITLE and second["name"] == "y.mid" and TITLE not in page
    assert ["sampler.min_p", "0.02"] in second["made"] and "3/4" in second["facts"] and "100 to 150" in second["facts"]
    assert not re.search(r"(?:src|href)=\"(?!#)|https?://|@import|url\(", page)  # nothing is fetched
    assert [t["name"] for t in second["tracks"]] == ["Voice", "Acoustic Bass", "Kit"]
    assert set(second["drums"].values()) == {"Bass Drum", "Snare", "Closed Hi-hat"}
    tuned = [y for y, t in zip(second["notes"]["line"], second["notes"]["track"], strict=True) if t != 2]
    assert max(map(int, second["drums"])) <= second["floor"] < min(tuned)


@pytest.mark.parametrize("seed", range(4))
def test_the_pedal_holds_notes(seed):
    """As one hears tick by tick: a key that is let go sounds on while the pedal is down."""
    rng = np.random.default_rng(seed)
    notes = [(int(t), int(rng.integers(1, 20)), int(rng.integers(2)), int(rng.integers(60, 64)), 80)
             for t in rng.choice(100, 25, replace=False)]  # fmt: skip
    controls = [(int(rng.integers(110)), 0, 0, int(rng.choice([64, 64, 1])), int(rng.integers(128))) for _ in range(14)]
    score = Score(notes=notes, tracks=[(0, False), (0, False)], controls=controls).repaired()[0]
    state, down = np.zeros(score.end + 1, bool), False
    rows = score.controls[score.controls["number"] == 64]
    for tick in range(score.end + 1):
        for row in rows[rows["tick"] == tick]:
            down = row["value"] >= 64
        state[tick] = down
    for n, found in zip(score.notes, pedal.sounding(score), strict=True):
        stop = n["onset"] + n["duration"]
        again = score.onset[(score.pitch == n["pitch"]) & (score.track == n["track"]) & (score.onset > n["onset"])]
        while n["track"] == 0 and stop < score.end and state[stop]:
            stop += 1
        assert found == min([stop, *again])


def test_what_was_given():
    score = piece()
    prompt = score.replace(notes=score.notes[score.onset < 1440])
    assert np.array_equal(player.given(score, prompt), score.onset < 1440)
    coarse = prompt.notes.copy()
    coarse["onset"] //= 10
    assert np.array_equal(player.given(score, prompt.replace(resolution=48, notes=coarse)), score.onset < 1440)
    lines = score.bar_ticks
    mask = player.given(score, None, (1, 3))
    assert np.array_equal(mask, (score.onset >= lines[1]) & (score.onset < lines[3]))
    assert not player.given(score, None).any()
    (found,) = data(player.page([player.Piece("x.mid", score, mask)]))["pieces"]
    assert found["notes"]["given"] == mask.astype(int).tolist()
    np.testing.assert_allclose(found["given"], [score.seconds(lines[[1, 3]])], atol=6e-5)


def test_to_disk(tmp_path):
    path = player.write([player.Piece("x.mid", piece())], tmp_path / "p.html")
    assert (tmp_path / "p.html").read_text().endswith("</html>\n") and path == str(tmp_path / "p.html")
    with pytest.raises(UserError, match=r"gone/p\.html"):
        player.write([player.Piece("x.mid", piece())], tmp_path / "gone/p.html")
    assert [p.name for p in tmp_path.iterdir()] == ["p.html"]


# --- in a browser -----------------------------------------------------------------------------------------------------

needs_browser = pytest.mark.skipif(browser.find() is None, reason="no browser: install chromium or set AURLJAX_BROWSER")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The player of three pieces, the last one empty, in a browser."""
    path = tmp_path_factory.mktemp("player") / "p.html"
    score = piece()
    pieces = [player.Piece("a.mid", score, player.given(score, None, (0, 1))),
              player.Piece("b.mid", finish(random_score(1, 60))), player.Piece("c.mid", Score())]  # fmt: skip
    player.write(pieces, path)
    with browser.start() as page:
        page.path = path
        yield page


@pytest.fixture
def opened(page):
    page.events.clear()
    page.open(page.path)
    yield page
    assert page.complaints == [] and page.requests == [page.path.as_uri()]


def drawn(page) -> int:
    """How many notes the roll shows, once what was asked for is drawn: the page draws with its next frame."""
    page.wait("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
    return page.run("aurljax.state.drawn")


def colours(page, x: float, y: float, width: float = 1, height: float = 1) -> set[tuple[int, ...]]:
    """The colours in a box of the roll."""
    drawn(page)
    copy = f"new OffscreenCanvas({width}, {height}).getContext('2d', {{ willReadFrequently: true }})"
    rgba = page.run(f"(pen => {{ pen.drawImage(document.getElementById('canvas'), -{x}, -{y});"
                    f"return [...pen.getImageData(0, 0, {width}, {height}).data]; }})({copy})")  # fmt: skip
    return {tuple(rgba[i : i + 3]) for i in range(0, len(rgba), 4)}


@needs_browser
def test_it_draws_every_note(opened):
    score = piece()
    assert drawn(opened) == len(score) and opened.run("document.title") == TITLE
    lines, zoom = data(opened.path.read_text())["pieces"][0]["notes"]["line"], opened.run("aurljax.state.zoom")
    gutter, row, high = opened.run("[gutter, line(), piece.high]")
    seconds = score.seconds(score.onset)
    for i in range(len(score)):
        (colour,) = colours(opened, round(gutter + seconds[i] * zoom + 3), 24 + row * (high - 1 - lines[i]) + row // 2)
        assert max(colour) - min(colour) > (0 if score.is_drum[i] else 12), i  # no paper
    assert len(colours(opened, 0, 0, 600, 200)) > 30
    opened.run("aurljax.choose(2)")
    assert drawn(opened) == 0 and opened.run("aurljax.play() || aurljax.state.playing") is False


@needs_browser
def test_it_plays_every_note_once_and_stops(opened):
    opened.run("aurljax.tempo(6)")
    opened.press(" ")
    assert opened.run("document.getElementById('play').ariaLabel") == "Pause"
    opened.wait("!aurljax.state.playing")
    assert opened.run("aurljax.state.scheduled") == len(piece())
    assert opened.run("aurljax.now() === piece.end && document.getElementById('status').textContent") == "paused"
    opened.run("aurljax.seek(1.0)")  # from the middle: what begins later, and what sounds there
    opened.click("#play")
    opened.wait("!aurljax.state.playing")
    score = piece()
    start, stop = score.seconds(score.onset), score.seconds(score.onset + score.duration)
    due = (start >= 1) | ((stop > 1.02) & ~score.is_drum)
    assert opened.run("aurljax.state.scheduled") == due.sum() < len(score)


@needs_browser
def test_time_goes_as_fast_as_asked(opened):
    opened.run("aurljax.tempo(0.5)")
    opened.press(" ")
    opened.wait("aurljax.now() > 0")
    first = opened.run("[aurljax.now(), audio.context.currentTime]")
    opened.wait("aurljax.now() > 0.3")
    last = opened.run("[aurljax.now(), audio.context.currentTime]")
    assert (last[0] - first[0]) / (last[1] - first[1]) == pytest.approx(0.5, abs=1e-6)
    opened.press(" ")
    paused = opened.run("aurljax.now()")
    assert paused >= last[0] and opened.run("aurljax.now()") == paused


@needs_browser
def test_it_seeks_by_click_and_by_keys(opened):
    bars = data(opened.path.read_text())["pieces"][0]["bars"]
    zoom, gutter = opened.run("[aurljax.state.zoom, gutter]")
    opened.click("#canvas", gutter + 1.5 * zoom, 60)
    assert opened.run("aurljax.now()") == pytest.approx(1.5, abs=1.5 / zoom)
    keys = {"Home": 0, "ArrowRight": bars[1], "End": bars[-1], "ArrowLeft": bars[-2]}
    for key, wanted in keys.items():
        opened.press(key)
        assert opened.run("aurljax.now()") == wanted, key
    opened.press("End")
    before = opened.run("aurljax.state.zoom")
    opened.press("+")
    assert opened.run("aurljax.state.zoom") == pytest.approx(1.25 * before)
    assert opened.run("document.getElementById('seek').getAttribute('aria-valuetext')") == "0:06 of 0:06, bar 4"


@needs_browser
def test_mute_and_solo_are_heard(opened):
    whole = opened.run("aurljax.render(3)")
    assert whole["rms"] > 0.02 and whole["peak"] < 1
    opened.press("1")
    without = opened.run("aurljax.render(3)")
    assert 0 < without["rms"] < whole["rms"]
    assert opened.run("document.querySelector('[aria-label=\"mute Voice\"]').ariaPressed") == "true"
    for name in ("Acoustic Bass", "Kit"):
        opened.click(f'[aria-label="mute {name}"]')
    assert opened.run("aurljax.render(3)")["rms"] == 0
    opened.click('[aria-label="solo Kit"]')
    assert 0 < opened.run("aurljax.render(3)")["rms"] < without["rms"]


@needs_browser
def test_pieces_downloads_and_what_was_given(opened):
    href = opened.run("document.getElementById('download').href")
    assert href == "data:audio/midi;base64," + base64.b64encode(midi.dumps(piece())).decode()
    assert opened.run("document.getElementById('download').download") == "a.mid"
    assert opened.run("document.getElementById('given').offsetHeight") > 0
    opened.click(".pieces button:nth-child(2)")
    rows = opened.run("document.querySelectorAll('.track').length")
    assert opened.run("aurljax.state.piece") == 1 and rows == len(finish(random_score(1, 60)).tracks)
    assert opened.run("document.getElementById('given').offsetHeight") == 0
    assert opened.run("document.getElementById('download').download") == "b.mid"
    named = "e => /[a-z]{2}/i.test(e.ariaLabel || e.labels?.[0]?.textContent || e.textContent)"  # for those who listen
    assert opened.run(f"[...document.querySelectorAll('button, input, canvas, a')].every({named})")


@needs_browser
@pytest.mark.parametrize("width", [360, 1600])
def test_it_fits_any_window_by_day_and_by_night(opened, width):
    shades = []
    for dark in (False, True):
        opened.open(opened.path, width, 800, dark)
        assert opened.run("document.documentElement.scrollWidth") <= width
        shades.append(sum(next(iter(colours(opened, 2, 2)))))
    assert shades[0] > 700 > 120 > shades[1]
    opened.events[:] = [e for e in opened.events if e[0] != "Network.requestWillBeSent"]
    opened.open(opened.path)
