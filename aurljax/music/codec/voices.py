"""The `voices` codec: a few voices that each sing one note at a time, frame by frame on a grid.

A piece reads: start, then bars. A bar is `bar`, `meter` and `tempo` where they change, and its frames; a frame is one
id a voice, highest voice first: the `pitch` that sounds, `rest`, or, with `onsets`, `hold` for a pitch that goes on.
Without `barlines` there are frames alone: the form in which likelihoods of the JSB chorales are published.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from aurljax.errors import UserError
from aurljax.music.codec.base import Codec, commonest
from aurljax.music.codec.meters import Meters
from aurljax.music.codec.vocabulary import CodecError, Vocabulary
from aurljax.music.codec.voices_grammar import REST, VoicesGrammar
from aurljax.music.codec.voices_layout import paint, struck, voice_name
from aurljax.music.score import METER, NOTE, TEMPO, Score

SLOWEST, STEPS, OCTAVE = 15, 80, 16  # tempo steps: 15 * 2 ** (step / 16) quarters a minute, up to 460
USEC = np.rint(60e6 / (SLOWEST * 2 ** (np.arange(STEPS) / OCTAVE))).astype(np.int64)  # per quarter
BLOCK = 4  # quarters of a "bar" where no bar lines are written
VELOCITY = 80  # of every decoded note
MOST_VOICES, FINEST = 16, 24


@dataclasses.dataclass(frozen=True)
class VoicesLayout:
    """A score as voices: what `encode` writes down and `loss_report` compares."""

    source: np.ndarray  # [frames, voices] row of the note that sounds, -1 for a rest
    sound: np.ndarray  # [frames, voices] its pitch, or REST
    struck: np.ndarray  # [frames, voices] whether a note begins
    lines: np.ndarray  # [bars + 1] first frame of each bar
    meter: np.ndarray  # [bars] meter id
    tempo: np.ndarray  # [bars] tempo step
    lost: dict[str, int]

    @property
    def bars(self) -> int:
        """Number of bars."""
        return len(self.meter)


@dataclasses.dataclass(frozen=True)
class VoicesCodec(Codec):
    """Score <-> ids. `grid`: frames per quarter. `onsets`: tell a note held from one struck again. `barlines`: write
    bars, meters and tempi; without them a window's "bar" is four quarters. `intervals`: features of the other voices and
    of motion; the ids are the same."""

    voices: int = 4
    grid: int = 4
    onsets: bool = False
    barlines: bool = True
    intervals: bool = False
    name = "voices"
    tempi = USEC  # microseconds per quarter of each tempo step
    velocity = VELOCITY

    def __post_init__(self):
        for name, most in (("voices", MOST_VOICES), ("grid", FINEST)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise UserError(f"codec option {name} must be a whole number in 1..{most}, not {value!r}")
        for name in ("onsets", "barlines", "intervals"):
            if type(getattr(self, name)) is not bool:
                raise UserError(f"codec option {name} must be true or false, not {getattr(self, name)!r}")

    @property
    def options(self) -> dict[str, int]:
        """What `make` needs to build this codec again."""
        return dataclasses.asdict(self)

    @functools.cached_property
    def meters(self) -> Meters:
        """The meters that can be written."""
        return Meters(self.grid)

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids: about 260, or 133 without bar lines."""
        kinds = [("pad", 1), ("start", 1), ("continue", 1), ("end", 1)]
        if self.barlines:
            kinds += [("bar", 1), ("meter", len(self.meters.table)), ("tempo", STEPS)]
        return Vocabulary((*kinds, ("rest", 1), *[("hold", 1)] * self.onsets, ("pitch", 128)))

    @functools.cached_property
    def grammar(self) -> VoicesGrammar:
        """Which ids may follow which."""
        lengths, block = self.meters.lengths, BLOCK * self.grid
        return VoicesGrammar(self.vocabulary, self.voices, self.grid, lengths, USEC, block, self.intervals)

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits; corpora of windows and checkpoints are bound to it."""
        options = {name: value for name, value in self.options.items() if name != "intervals" or value}  # came later
        return self.vocabulary.fingerprint(codec=self.name, layout=1, **options)

    @property
    def unit(self) -> int:
        """Ticks of a frame in decoded scores."""
        return max(480 // self.grid, 20)

    # --- Score -> ids ----------------------------------------------------------------------------------------------

    def window(self, layout: VoicesLayout, first: str, a: int, b: int) -> np.ndarray:
        """Ids of bars a..b-1 behind `first`. Notes that sound into them sound from their first frame."""
        return np.append(self.vocabulary.id(first), self._body(layout, a, b))

    def bar_lengths(self, score: Score) -> np.ndarray:
        """int32 [bars] ids of each bar when the whole piece is encoded."""
        layout = self.layout(score)
        written = (self._prefix(layout, 0, layout.bars) >= 0).sum(1)
        return (written + self.voices * np.diff(layout.lines)).astype(np.int32)

    def overhead(self, score: Score) -> int:
        """Most ids that a window may have beyond those of its bars: ends, meter, tempo."""
        return 2 + 2 * self.barlines

    def opening(self, prompt: Score | None) -> tuple[np.ndarray, bool]:
        """Without bar lines a prompt that ends inside a bar has begun the first new one."""
        ids, begun = super().opening(prompt)
        return ids, begun or (len(ids) - 1) % (self.voices * BLOCK * self.grid) > 0

    def homes(self, prompt: Score) -> dict[int, int]:
        """`Codec.homes` of voices, which may share a track."""
        voices = enumerate(self.layout(prompt).source.T)
        return {v: commonest(prompt.track[rows[rows >= 0]]) for v, rows in voices if (rows >= 0).any()}

    def bar_starts(self, ids: np.ndarray, count: int) -> np.ndarray:
        """[count] where the first bars of a sequence of ids begin."""
        ids, v = np.asarray(ids), self.vocabulary
        if self.barlines:
            return np.flatnonzero(ids == v.id("bar"))[:count]
        return np.flatnonzero(v.kind[ids] >= v.index["rest"])[:: self.voices * BLOCK * self.grid][:count]

    def _body(self, layout: VoicesLayout, a: int, b: int) -> np.ndarray:
        """Ids of bars a..b-1."""
        lines, v = layout.lines[a : b + 1], self.vocabulary
        sound, begins = layout.sound[lines[0] : lines[-1]], layout.struck[lines[0] : lines[-1]]
        cells = np.where(sound == REST, v.id("rest"), v.id("pitch") + np.minimum(sound, 127))
        if self.onsets:
            cells[1:][(sound[1:] != REST) & ~begins[1:]] = v.id("hold")
        prefix = self._prefix(layout, a, b)
        written = (prefix >= 0).sum(1)
        out = np.empty(cells.size + written.sum(), np.int64)
        is_cell = np.ones(len(out), bool)
        at = np.cumsum(written) - written + self.voices * (lines[:-1] - lines[0])  # of each bar
        place = at[:, None] + np.cumsum(prefix >= 0, 1) - 1
        is_cell[place[prefix >= 0]] = False
        out[~is_cell], out[is_cell] = prefix[prefix >= 0], cells.ravel()
        return out

    def _prefix(self, layout: VoicesLayout, a: int, b: int) -> np.ndarray:
        """[bars, 3] the ids before each bar's frames, -1 where nothing is written."""
        out = np.full((b - a, 3), -1)
        if self.barlines:
            out[:, 0] = self.vocabulary.id("bar")
            for i, (kind, value) in enumerate((("meter", layout.meter[a:b]), ("tempo", layout.tempo[a:b])), 1):
                new = np.append(True, value[1:] != value[:-1])
                out[new, i] = self.vocabulary.id(kind) + value[new]
        return out

    def layout(self, score: Score) -> VoicesLayout:
        """The score as voices, with what does not fit counted in `lost`."""
        source, lost = paint(score, self.voices, self.grid)
        if self.barlines:
            last = max(len(source) - 1, 0)
            lines, meter = self.meters.bars(score, last, lost)
            count = int(np.searchsorted(lines, last, "right"))  # the last bar is the last in which something sounds
            lines, meter = lines[: count + 1], meter[:count]
        else:
            frames = max(len(source), 1)
            lines = np.append(np.arange(0, frames, BLOCK * self.grid), frames)
            meter = np.zeros(len(lines) - 1, np.int64)
        source = np.pad(source, ((0, int(lines[-1]) - len(source)), (0, 0)), constant_values=-1)
        pitch = np.append(score.pitch, REST).astype(np.int64)
        seconds = score.seconds(lines * (score.resolution / self.grid))
        tempo = step_of(np.diff(seconds) * 1e6 * self.grid / np.diff(lines))
        return VoicesLayout(source, pitch[source], struck(source), lines, meter, tempo, lost)

    # --- ids -> Score ----------------------------------------------------------------------------------------------

    def decode(self, tokens) -> Score:
        """The Score of ids that begin with `start` or `continue`; raises CodecError where they break off.

        Its tracks are named after the voices, so that encoding it puts every note back into its own."""
        ids = self.vocabulary.written(tokens)
        kind, value, number = self.vocabulary.kind[ids], self.vocabulary.value[ids], self.vocabulary.index
        cell = kind >= number["rest"]
        lines = self._check(kind, value, cell)
        cells = np.where(kind == number["pitch"], value, REST)[cell].reshape(-1, self.voices)
        held = (kind[cell] == number.get("hold", -1)).reshape(cells.shape)
        at_meter, at_tempo = (np.flatnonzero(kind == number.get(k, -1)) for k in ("meter", "tempo"))
        bar = np.cumsum(kind == number.get("bar", -1)) - 1
        return Score(
            self.unit * self.grid,
            notes=self._notes(cells, held),
            tracks=[(0, False)] * self.voices,
            names=tuple(voice_name(v) for v in range(self.voices)),
            tempo=np.array([(lines[bar[i]] * self.unit, USEC[value[i]]) for i in at_tempo], TEMPO),
            meter=np.array([(lines[bar[i]] * self.unit, *self.meters.table[value[i]]) for i in at_meter], METER),
        )

    def _notes(self, cells: np.ndarray, held: np.ndarray) -> np.ndarray:
        """The notes of [frames, voices] pitches: each from where it is struck until something else follows."""
        frames = len(cells)
        sounds = cells != REST
        goes_on, begins = held.copy(), sounds.copy()
        if not self.onsets:
            goes_on[1:] |= sounds[1:] & (cells[1:] == cells[:-1])
            begins &= ~goes_on
        goes_on, begins = (np.pad(x, ((0, 1), (0, 0))).T.ravel() for x in (goes_on, begins))
        start, breaks = np.flatnonzero(begins), np.flatnonzero(~goes_on)
        notes = np.zeros(len(start), NOTE)
        voice, frame = np.divmod(start, frames + 1)
        notes["onset"], notes["track"], notes["pitch"] = frame * self.unit, voice, cells[frame, voice]
        notes["duration"] = (breaks[np.searchsorted(breaks, start, "right")] - start) * self.unit
        notes["velocity"] = VELOCITY
        return notes

    def _check(self, kind: np.ndarray, value: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """[bars + 1] first frames of the bars of ids that are a piece or a window; CodecError if they are neither."""
        n, v = self.vocabulary.index, self.voices
        if not len(kind) or not np.isin(kind[0], [n["start"], n["continue"]]):
            raise CodecError("a sequence of ids must begin with `start` or `continue`")
        if np.isin(kind[1:], [n["pad"], n["start"], n["continue"]]).any() or (kind[:-1] == n["end"]).any():
            raise CodecError("`pad`, `start`, `continue` or `end` stands within a piece")
        if cell.sum() % v:
            raise CodecError(f"the last frame breaks off: it has {cell.sum() % v} of {v} voices")
        if self.onsets:
            kinds = np.concatenate([np.full(v, n["rest"]), kind[cell]])
            if (kinds[:-v][kinds[v:] == n["hold"]] == n["rest"]).any():
                raise CodecError("`hold` stands where its voice has no pitch to hold")
        if not self.barlines:
            return np.zeros(1, np.int64)
        before = np.append(kind[0], kind[:-1])
        for name, after in (("meter", ["bar"]), ("tempo", ["bar", "meter"])):
            if not np.isin(before[kind == n[name]], [n[k] for k in after]).all():
                raise CodecError(f"`{name}` may stand only at the beginning of a bar")
        if kind[1:4].tolist() != [n["bar"], n["meter"], n["tempo"]]:
            raise CodecError("the first bar must begin with `bar`, `meter` and `tempo`")
        at = np.flatnonzero(kind == n["bar"])
        changes = np.flatnonzero(kind == n["meter"])
        meter = value[changes[np.searchsorted(changes, np.append(at[1:], len(kind))[: len(at)]) - 1]]
        written = np.diff(np.append(np.cumsum(cell)[at], cell.sum()))
        full = v * self.meters.lengths[meter]
        whole = len(at) if kind[-1] == n["end"] else len(at) - 1
        if (written != full)[:whole].any() or (written > full).any():
            raise CodecError("a bar has more or fewer frames than its meter")
        return np.append(0, np.cumsum(self.meters.lengths[meter]))

    # --- what the model is told ------------------------------------------------------------------------------------

    def features(self, tokens) -> dict[str, np.ndarray]:
        """{name: int32 [T]} the grammar's features at every id, equal to stepping it, without the stepping."""
        from aurljax.music.codec.voices_features import of_voices

        return of_voices(self.grammar, np.asarray(tokens))

    def loss_report(self, score: Score) -> dict[str, float]:
        """What encoding this score loses: counts, and worst errors in seconds, velocity and tempo."""
        from aurljax.music.codec.report import of_voices

        return of_voices(self, score)


def step_of(usec: np.ndarray) -> np.ndarray:
    """The tempo step nearest to each number of microseconds per quarter, clipped to the range."""
    return np.clip(np.rint(OCTAVE * np.log2(60e6 / SLOWEST / usec)), 0, STEPS - 1).astype(np.int64)
