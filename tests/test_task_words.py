"""Tasks on the command line: bars and tracks from 1, and a sentence for what cannot be."""

import argparse

import pytest
from test_tasks import HOT, band, model, only_masked_cells_changed

from aurljax.cli import main
from aurljax.errors import UserError
from aurljax.tasks import words
from aurljax.tasks.piece import Piece

NONE = dict.fromkeys(("infill", "accompany", "vary", "in_bars", "in_tracks", "given", "add", "share"))


def arguments(**given) -> argparse.Namespace:
    return argparse.Namespace(**(NONE | {"n": 1, "seed": 0} | given))


@pytest.fixture(scope="module")
def tiny():
    return model(microtiming=True, pedal=True)


def test_bars_and_tracks_count_from_one(tiny):
    asked = arguments(infill="x", in_bars="2-3, 5", in_tracks="1,pad")
    (found,) = words.run("infill", tiny, band(1), asked, {"sampler": HOT})
    only_masked_cells_changed(band(1), [(b, t) for b in (1, 2, 4) for t in (0, 1)], found)
    assert words.line(found).startswith(f"{len(found.new)} new notes in 6 cells")


@pytest.mark.parametrize(
    ("name", "given", "sentence"),
    [
        ("infill", {}, "say where, with --in-bars"),
        ("infill", {"in_bars": "0-2"}, "the piece has bars 1 to 6, so there is no 0-2"),
        ("infill", {"in_bars": "3-2"}, "there is no 3-2"),
        ("infill", {"in_bars": "7"}, "there is no 7"),
        ("infill", {"in_bars": "two"}, "--in-bars two: write whole numbers"),
        ("infill", {"in_tracks": "4"}, "the piece has tracks 1 Lead, 2 Pad, 3; there is no 4"),
        ("infill", {"in_tracks": "bass"}, "no tracks of the piece are named 'bass'"),
        ("accompany", {"given": "1,2,3"}, "every track of the piece is given"),
        ("accompany", {"add": "52@x"}, "--add 52@x: write whole numbers"),
        ("vary", {"share": 1.5}, "share: 1.5 must be"),
    ],
)
def test_what_cannot_be_is_one_sentence(tiny, name, given, sentence):
    with pytest.raises(UserError) as caught:
        words.run(name, tiny, band(1), arguments(**{name: "x"}, **given), {"sampler": HOT})
    assert sentence in str(caught.value)


def test_options_go_with_their_task(tmp_path, capsys):
    assert words.named(arguments()) is None and words.named(arguments(vary="x", share=0.1)) == "vary"
    with pytest.raises(UserError, match="--share belongs to --vary"):
        words.named(arguments(infill="x", share=0.1))
    where = ["generate", "--checkpoint", str(tmp_path / "no"), "--out", str(tmp_path / "out")]
    assert main([*where, "--infill", "x.mid", "--in-bars", "1", "--bars", "4"]) == 2
    assert "--infill takes no --bars; leave it out" in capsys.readouterr().err
    assert main([*where, "--in-bars", "1"]) == 2
    assert "--in-bars belongs to --infill" in capsys.readouterr().err


def test_added_tracks_take_their_places(tiny):
    melody = band(2).replace(notes=band(2).notes[band(2).track == 0])
    (found,) = words.run("accompany", tiny, melody, arguments(accompany="x", given="1", add="33@1,128"), {"sampler": HOT})
    assert found.score.tracks["program"].tolist()[:2] == [33, 0] and found.score.tracks["is_drum"][-1]
    assert Piece(melody, tiny.codec).tracks + 2 == len(found.score.tracks)
