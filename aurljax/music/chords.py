"""Chord symbols: lead-sheet names and Harte's labels <-> (root, quality, bass), and the chords among a score's texts.

Labels after C. Harte et al., "Symbolic representation of musical chords", ISMIR 2005. A symbol is its base (third, fifth,
seventh) and what is added; its quality is the largest of `QUALITIES` that holds the base and nothing beyond the symbol.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from aurljax.music.score import TEXT_KINDS, Score

CHORD = np.dtype([("tick", "<i8"), ("root", "i1"), ("quality", "u1"), ("bass", "i1")])
Symbol = tuple[int, int, int]  # root pitch class, index of the quality, bass pitch class
Texts = tuple[tuple[int, str, str], ...]  # of a score
SILENT: Symbol = (-1, 0, -1)  # no chord

_KINDS = {  # quality: (suffix of its canonical name, semitones above the root); only ever added to, at the end
    "maj": ("", (0, 4, 7)),
    "min": ("m", (0, 3, 7)),
    "dim": ("dim", (0, 3, 6)),
    "aug": ("aug", (0, 4, 8)),
    "sus2": ("sus2", (0, 2, 7)),
    "sus4": ("sus4", (0, 5, 7)),
    "6": ("6", (0, 4, 7, 9)),
    "min6": ("m6", (0, 3, 7, 9)),
    "7": ("7", (0, 4, 7, 10)),
    "maj7": ("maj7", (0, 4, 7, 11)),
    "min7": ("m7", (0, 3, 7, 10)),
    "minmaj7": ("mmaj7", (0, 3, 7, 11)),
    "dim7": ("dim7", (0, 3, 6, 9)),
    "hdim7": ("m7b5", (0, 3, 6, 10)),
    "aug7": ("aug7", (0, 4, 8, 10)),
    "7sus4": ("7sus4", (0, 5, 7, 10)),
    "9": ("9", (0, 2, 4, 7, 10)),
    "maj9": ("maj9", (0, 2, 4, 7, 11)),
    "min9": ("m9", (0, 2, 3, 7, 10)),
    "5": ("5", (0, 7)),
    "add9": ("add9", (0, 2, 4, 7)),
}
QUALITIES = tuple(_KINDS)
INTERVALS = tuple(frozenset(tones) for _, tones in _KINDS.values())  # of each quality, semitones above the root
LONGEST = 40  # characters of a symbol
ROOTS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

_ASCII = str.maketrans({"♭": "b", "♯": "#", "\N{MINUS SIGN}": "-"})
LETTERS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
_SILENCE = ("N", "NC", "N.C.", "N.C")
_TRIADS = {  # longer spellings first where one begins another
    "hdim": ("halfdim", "hdim", "ø", "Ø", "h(?=7)"),
    "dim": ("dim", "Dim", "DIM", "°", "º", "o"),
    "aug": ("aug", "Aug", "AUG", r"\+"),
    "maj": ("maj", "Maj", "MAJ", "ma", "Ma", "MA", "M", "Δ", "∆", "△", r"\^"),
    "min": ("min", "Min", "MIN", "mi", "Mi", "MI", "m", "-"),
}
_SEVENTH = {"maj": 11, "dim": 9}  # of a triad with a number from 7 on; else 10
_BASE = {"": (0, 4, 7), "maj": (0, 4, 7), "min": (0, 3, 7), "dim": (0, 3, 6), "hdim": (0, 3, 6), "aug": (0, 4, 8)}


def _group(name: str, spellings: tuple[str, ...]) -> str:
    return f"(?P<{name}>{'|'.join(spellings)})"


_NOTE = "[A-G](?:##|#|bb|b)?"
_HEAD = re.compile(
    rf"(?P<root>{_NOTE})(?![#b])(?P<harte>:?)(?P<body>.*?)(?:/(?P<bass>{_NOTE}|[b#]{{0,2}}(?:1[0-3]|[1-9])))?"
)
_ADDED = r"(?:add|no|omit|\*)?(?:[+-]|[b#]{1,2})?(?:1[13]|[2-79])"  # read in one way only: any text is matched fast
_BODY = re.compile(
    f"(?:{'|'.join(_group(name, spellings) for name, spellings in _TRIADS.items())})?"
    rf"(?P<major>\(?(?:{'|'.join(_TRIADS['maj'])})(?=[79]|1[13]))?"  # a major seventh over a minor triad
    r"(?P<number>6/9|69|1[13]|[5679])?(?P<raised>\+(?![0-9]))?(?(major)\)?)"
    r"(?P<sus>sus[24]?)?"
    rf"(?P<open>(?:(?:add|no|omit|[b#+-])[b#]?(?:1[13]|[2-79]))*)"
    rf"(?:\((?P<closed>{_ADDED}(?:[,/ ]*{_ADDED})*)\))?"
)
_ONE = re.compile(r"(add|no|omit|\*)?([b#+-]*)(1[13]|[2-79])")
_DEGREE = (0, 2, 4, 5, 7, 9, 11)


@functools.lru_cache(1 << 14)
def parse(text: str) -> Symbol | None:
    """(root pitch class, index into QUALITIES, bass pitch class) of a chord symbol; None: it is none, or of a quality
    that holds none of these.

    Takes lead-sheet symbols (Cm7, F#maj7/A#, Bb-7, CΔ7, Eø, G7sus4, C+; a bare Δ is a major seventh) and Harte labels
    (C:maj7, A:min/b3). N, NC and N.C. are no chord, `SILENT`. Tones beyond the quality go: C7b9 is C7, C13 is C9; but
    C7b5 is None, for no quality here is part of it.
    """
    text = text.strip()
    if text in _SILENCE:
        return SILENT
    split = _split(text) if len(text) <= LONGEST else None
    if split is None:
        return None
    root, harte, body, bass = split
    tones = _tones(body, bool(harte))
    if tones is None:
        return None
    base, every = tones
    fits = [i for i, quality in enumerate(INTERVALS) if base <= quality <= every]
    if not fits:
        return None
    low = _pitch_class(root)
    return low, max(fits, key=lambda i: len(INTERVALS[i])), _bass(bass, low) if bass else low


def name(root: int, quality: int, bass: int) -> str:
    """The canonical name of a chord, such as Cmaj7/E, or N.C.; `parse` gives the same three numbers back."""
    if root < 0:
        return "N.C."
    suffix = _KINDS[QUALITIES[quality]][0]
    return ROOTS[root % 12] + suffix + (f"/{ROOTS[bass % 12]}" if bass % 12 != root % 12 else "")


def of(score: Score) -> np.ndarray:
    """CHORD [C] rows of the chords among a score's texts, by tick; equal chords in succession are one.

    The texts of a kind hold chords if at least half of them are chord symbols and one of those is more than a letter
    with its accidental (a lyric: also more than that and an o): so sung words (A, Am, Go) and sections (A, B, C) are no
    chords. Where markers hold chords, lyrics are not asked. Of several chords at one tick the last counts. A
    text between chords that is none ends nothing.
    """
    kinds = _kinds(score.texts)
    kind = next((k for k in reversed(TEXT_KINDS) if k in kinds), None)
    found = {tick: symbol for tick, k, text in score.texts if k == kind and (symbol := parse(text))}
    rows = np.array([(tick, *symbol) for tick, symbol in found.items()], CHORD)
    same = [rows[c][1:] == rows[c][:-1] for c in ("root", "quality", "bass")]
    return rows[np.append(True, ~np.all(same, axis=0))] if len(rows) else rows


def transposed(texts: Texts, semitones: int) -> Texts:
    """Texts of a score whose chords (see `of`) are `semitones` higher: root and bass get their canonical names, the rest
    of a symbol stays as it is written. All other texts, and the order, stay."""
    kinds = _kinds(texts) if semitones % 12 else set()
    return tuple((t, kind, _renamed(text, semitones) if kind in kinds else text) for t, kind, text in texts)


def _kinds(texts: Texts) -> set[str]:
    """The kinds of text that hold chords. Nothing in this depends on a root, so transposition changes no answer."""
    out = set()
    for kind in TEXT_KINDS:
        mine = [text for _, k, text in texts if k == kind]
        chords = [text.strip() for text in mine if parse(text)]
        bare = ("", "o") if kind == "lyric" else ("",)
        if 2 * len(chords) >= len(mine) and any(t not in _SILENCE and _suffix(t) not in bare for t in chords):
            out.add(kind)
    return out


def _suffix(text: str) -> str:
    """What a symbol says beyond its root."""
    _, harte, body, bass = _split(text)
    return harte + body + (bass or "")


@functools.lru_cache(1 << 14)
def _renamed(text: str, semitones: int) -> str:
    if parse(text) in (None, SILENT):
        return text
    root, harte, body, bass = _split(text.strip())
    if bass:
        bass = "/" + (ROOTS[(_pitch_class(bass) + semitones) % 12] if bass[0] in LETTERS else bass)
    return ROOTS[(_pitch_class(root) + semitones) % 12] + harte + body + (bass or "")


def _split(text: str) -> tuple[str, str, str, str | None] | None:
    """(root, colon of a Harte label, body, bass or None), accidentals and minus in ASCII; degrees are basses of Harte's."""
    match = _HEAD.fullmatch(text.translate(_ASCII))
    if match is None:
        return None
    root, harte, body, bass = match.group("root", "harte", "body", "bass")
    if bass and bass[0] not in LETTERS and not harte and (body or bass not in "234567"):  # C6/9, for one
        return root, harte, f"{body}/{bass}", None
    if harte and not body:
        return None
    return root, harte, body, bass


def _pitch_class(note: str) -> int:
    return (LETTERS[note[0]] + note.count("#") - note.count("b")) % 12


def _interval(accidentals: str, degree: str) -> int:
    """Semitones above the root, within an octave, of a degree of the major scale with accidentals."""
    up = sum(accidentals.count(c) for c in "#+") - sum(accidentals.count(c) for c in "b-")
    return (_DEGREE[(int(degree) - 1) % 7] + up) % 12


def _bass(bass: str, root: int) -> int:
    if bass[0] in LETTERS:
        return _pitch_class(bass)
    degree = bass.lstrip("b#")
    return (root + _interval(bass[: len(bass) - len(degree)], degree)) % 12


def _tones(body: str, harte: bool) -> tuple[set[int], set[int]] | None:
    """(tones of the base, all tones) of a symbol, in semitones above its root; None: it is no symbol."""
    match = _BODY.fullmatch(body)
    if match is None:
        return None
    triad = next((t for t in _TRIADS if match[t]), "")
    number = int((match["number"] or "0")[:1] if match["number"] in ("69", "6/9") else match["number"] or 0)
    if triad == "maj" and not number and match["maj"] in "Δ∆△^":
        number = 7
    if triad == "hdim":
        number = max(number, 7)
    wrong = (
        (match["major"] and triad != "min")
        or (match["sus"] and triad)
        or (match["raised"] and (triad or not number))
        or (number == 5 and triad)
        or (number == 6 and triad in ("dim", "hdim", "aug"))
        or (number > 7 and triad == "dim")
    )
    if wrong:
        return None
    base = _base(triad or ("aug" if match["raised"] else ""), number, bool(match["major"]), match["sus"])
    added = {2, 5, 9} if number == 13 else {2, 5} if number == 11 else {2} if number == 9 else set()
    for how, accidentals, degree in _ONE.findall(match["open"] + (match["closed"] or "")):
        tone = _interval(accidentals, degree)
        if how in ("no", "omit", "*"):
            base, added = base - _voiced(degree, accidentals, base), added - {tone}
        elif degree == "5" and not harte:  # of a lead sheet: instead of the fifth
            base = base - {6, 7, 8} | {tone}
        else:
            added = added - ({2} if degree == "9" else set()) | {tone}
    return base, base | added


def _base(triad: str, number: int, major: bool, sus: str | None) -> set[int]:
    base = set(_BASE[triad])
    if number == 5:
        base = {0, 7}
    elif number == 6:
        base.add(9)
    elif number:
        base.add(11 if major else _SEVENTH.get(triad, 10))
    if sus:
        base = base - {3, 4} | {2 if sus == "sus2" else 5}
    return base


def _voiced(degree: str, accidentals: str, base: set[int]) -> set[int]:
    """The tones of the base that a symbol leaves out: its third is minor or major, its fifth may be altered."""
    either = {"3": {3, 4}, "5": {6, 7, 8}, "7": {10, 11}}
    return base & either.get(degree, set()) if not accidentals else {_interval(accidentals, degree)}
