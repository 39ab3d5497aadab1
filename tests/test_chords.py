"""Chord symbols: every name is read back, spellings agree, sung words and sections are no chords, and all transpose."""

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurljax.data import augment
from aurljax.music import chords
from aurljax.music.score import Score

few = settings(max_examples=100, deadline=None)
EVERY = [(r, q, b) for r in range(12) for q in range(len(chords.QUALITIES)) for b in range(12)]
SPELLED = {  # quality of C: ways to write it
    "maj": "C C:maj CM Cmaj",
    "min": "Cm C- C:min Cmi Cmin Cmadd9",
    "dim": "Cdim C° Co Cmb5 C:dim",
    "aug": "C+ Caug C:aug C(#5)",
    "sus2": "Csus2 C:sus2",
    "sus4": "Csus Csus4 C:sus4",
    "6": "C6 C6/9 C69 Cmaj6 C:maj6(9) C:maj6(7)",
    "min6": "Cm6 C-6 Cm6/9",
    "7": "C7 C7b9 C7#9 C7(b9,#11) C7(b9/b13) C7-9 C13b9 C:maj(b7)",
    "maj7": "Cmaj7 CM7 CΔ CΔ7 C^7 Cma7 Cmaj7#11 C:maj(7)",
    "min7": "Cm7 C-7 Cmi7 Cmin7 C:min(b7) C:min7(11)",
    "minmaj7": "CmM7 Cm(maj7) C-Δ7 C:minmaj7",
    "dim7": "Cdim7 C°7 Co7",
    "hdim7": "Cø Cø7 Cm7b5 C-7(b5) C:hdim7 Ch7",
    "aug7": "C+7 C7+ C7#5 Caug7 C7#5#9",
    "7sus4": "C7sus4 C7sus C9sus4 C:sus4(b7) C:sus4(b7,9)",
    "9": "C9 C13 C11 C9#11 C:7(9)",
    "maj9": "Cmaj9 CΔ9 Cmaj13 C:maj7(9)",
    "min9": "Cm9 C-9 Cm11 C:min7(9)",
    "5": "C5 C(no3) C:maj(*3)",
    "add9": "Cadd9 C(add9) C:maj(9) C:maj(2)",
}


def test_every_name_is_read_back():
    assert all(chords.parse(chords.name(*symbol)) == symbol for symbol in EVERY)
    assert len({chords.name(*symbol) for symbol in EVERY}) == len(EVERY)
    assert chords.name(0, chords.QUALITIES.index("maj7"), 4) == "Cmaj7/E"
    assert chords.parse(chords.name(*chords.SILENT)) == chords.SILENT == chords.parse("N") == chords.parse("NC")


def test_the_order_of_qualities_is_for_ever():
    first, then = "maj min dim aug sus2 sus4 6 min6 7 maj7 min7", "minmaj7 dim7 hdim7 aug7 7sus4 9 maj9 min9 5 add9"
    assert " ".join(chords.QUALITIES[:21]) == f"{first} {then}"


@pytest.mark.parametrize("quality", chords.QUALITIES)
def test_spellings(quality):
    for text in SPELLED[quality].split():
        assert chords.parse(text) == (0, chords.QUALITIES.index(quality), 0), text


def test_roots_and_basses():
    for text, root, bass in (
        ("F#maj7/A#", 6, 10),
        ("Bb-7", 10, 10),
        ("E♭7/D♭", 3, 1),
        ("Cb", 11, 11),
        ("Abb7", 7, 7),
        ("A:min/b3", 9, 0),
        ("B:maj/5", 11, 6),
        ("D:7/b7", 2, 0),
        ("E/4", 4, 9),
        ("C6/9/E", 0, 4),
    ):
        assert chords.parse(text)[::2] == (root, bass), text


@pytest.mark.parametrize(
    "text", ["", *f"H c Cx A2 Verse C7b5 Calt Cmaj7#5 C: C:/3 C:1 C/9 Aim N7 C###9 m7 C7/H Cb{chr(0x663)}".split()]
)
def test_what_is_no_symbol_is_not_guessed(text):
    assert chords.parse(text) is None


@few
@given(st.text("CGb#m7sus49(),/+-o:maj15", max_size=40) | st.text(max_size=20))
def test_any_text_is_read_or_not(text):
    symbol = chords.parse(text)
    assert symbol is None or chords.parse(chords.name(*symbol)) == symbol


def test_long_texts_cost_nothing():
    for part in ("11", "b9", "1", ",", "add9", "#"):
        assert chords.parse("C7(" + part * 5000) is chords.parse("C7(" + part * 18) is None


def piece(**texts: str) -> Score:
    rows = [(i, kind, text) for kind, words in texts.items() for i, text in enumerate(words.split())]
    return Score(notes=[(0, 10, 0, 60, 64)], tracks=[(0, False)], texts=rows)


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ({"marker": "C Am F G7 G7 C"}, ["C", "Am", "F", "G7", "C"]),
        ({"marker": "Verse C Am Chorus F G"}, ["C", "Am", "F", "G"]),
        ({"lyric": "C:maj N A:min/b3"}, ["C", "N.C.", "Am/C"]),
        ({"marker": "C G7", "lyric": "F D7"}, ["C", "G7"]),
        ({"marker": "Verse", "lyric": "F D7"}, ["F", "D7"]),
        ({"marker": "A B C A"}, []),
        ({"marker": "A Bb C F#"}, []),
        ({"lyric": "A man that Am I"}, []),
        ({"lyric": "Go Do Go"}, []),
        ({"marker": "Intro Verse Am Chorus"}, []),
        ({"marker": "N N.C."}, []),
        ({}, []),
    ],
)
def test_chords_among_texts(texts, names):
    score = piece(**texts)
    found = chords.of(score)
    assert found.dtype == chords.CHORD
    assert [chords.name(*row[1:]) for row in found.tolist()] == names
    if not names:
        assert augment.transpose(score, 3).texts == score.texts


symbols = st.sampled_from([chords.name(*s) for s in EVERY] + list(itertools.chain(*map(str.split, SPELLED.values()))))


@few
@given(
    st.lists(symbols | st.sampled_from(["N", "Verse", "la", "A:min/b3", "C:maj/5"]), max_size=12), st.integers(-30, 30)
)
def test_chords_go_with_the_notes(words, by):
    score = piece(marker=" ".join(words))
    before, after = chords.of(score), chords.of(augment.transpose(score, by))
    assert after["tick"].tolist() == before["tick"].tolist()
    assert after["quality"].tolist() == before["quality"].tolist()
    for name in ("root", "bass"):
        assert after[name].tolist() == [x if x < 0 else (x + by) % 12 for x in before[name].tolist()]
    back = augment.transpose(augment.transpose(score, by), -by)
    assert (chords.of(back) == before).all()


def test_what_is_written_of_a_symbol_stays():
    score = piece(marker="Bb7(b9)/D Verse A:min/b3 C6/9 N.C.")
    texts = [text for *_, text in augment.transpose(score, 2).texts]
    assert texts == ["C7(b9)/E", "Verse", "B:min/b3", "D6/9", "N.C."]


@pytest.mark.parametrize("file", ["chord_midi.txt", "chord_audio.txt"])
def test_real_labels(file):
    """Of POP909's chord labels, those of 909 songs, all are read."""
    if "AURLJAX_DATA" not in os.environ:
        pytest.skip("AURLJAX_DATA names no folder with pop909/")
    paths = (Path(os.environ["AURLJAX_DATA"]) / "pop909").glob(f"*/{file}")
    labels = [line.split()[2] for path in paths for line in path.read_text().splitlines() if line.strip()]
    assert len(labels) > 80_000 and all(chords.parse(label) is not None for label in labels)
