"""What is wrong with a run, in words and with what to do about it, from the records of metrics.jsonl.

Each finder looks for one thing and says at which step it was seen. Thresholds lie where noise of a per cent or a curve that
still falls does not reach; what was tried against them is in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Records = Sequence[Mapping[str, float]]

FLAT = 0.003  # of the loss: a run whose loss falls less from the third to the last quarter stands still
FEW = 40  # records that say nothing yet about where a curve goes
BEFORE = 20  # records that a spike is seen against
GAP = 0.02  # of the loss: held-out loss above its lowest
DEAD = 1e-4  # of its median so far: a gradient that does nothing
LATE = 0.1  # share of the time without a batch
LAST = 5  # records in a row in which something must be so
SKIPPED = 0.01  # share of the steps


class Anomaly(NamedTuple):
    """What was seen, the step it was seen at, the sentence that says so and the one that says what to do."""

    kind: str
    step: int
    what: str
    advice: str

    @property
    def text(self) -> str:
        """Both sentences."""
        return f"{self.what}; {self.advice}"


def find(records: Records) -> list[Anomaly]:
    """All that is wrong with a run as it stands, in the order of steps."""
    found = [a for finder in (*NOW, *LONG) for a in finder(records)]
    return sorted(found, key=lambda a: a.step)


def series(records: Records, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps [N], values [N]) of the records that have a value."""
    points = np.array([(r["step"], r[name]) for r in records if name in r], float).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def finite(records: Records, name: str) -> tuple[np.ndarray, np.ndarray]:
    """`series` without what is no number."""
    steps, values = series(records, name)
    fine = np.isfinite(values)
    return steps[fine], values[fine]


def spikes(records: Records) -> list[Anomaly]:
    """The loss leaps above the records before: by 8 times their spread and a tenth of the loss. A leap counts once."""
    steps, loss = finite(records, "loss")
    if len(loss) <= BEFORE:
        return []
    before = np.lib.stride_tricks.sliding_window_view(loss[:-1], BEFORE)
    middle = np.median(before, 1)
    spread = 1.4826 * np.median(np.abs(before - middle[:, None]), 1)
    found, quiet = [], 0
    for i in np.flatnonzero(loss[BEFORE:] - middle > np.maximum(8 * spread, 0.1 * np.abs(middle))):
        if i >= quiet:
            quiet, step, now = i + BEFORE, int(steps[BEFORE + i]), loss[BEFORE + i]
            found.append(Anomaly("spike", step, f"the loss leapt from {middle[i]:.3g} to {now:.3g} at step {step}",
                                 "if it comes again, lower optim.learning_rate or optim.clip"))  # fmt: skip
    return found


def dead(records: Records) -> list[Anomaly]:
    """The gradient has all but vanished for some records in a row."""
    steps, norm = finite(records, "grad_norm")
    limit = DEAD * np.median(norm) if len(norm) >= 2 * LAST else 0.0
    if len(norm) < LAST or not (norm[-LAST:] <= max(limit, 1e-9)).all():
        return []
    what = f"the gradient has vanished: its norm is {norm[-1]:.2g}"
    return [Anomaly("dead gradient", int(steps[-1]), what, "nothing is learned any more; start again with another seed "
                    "or a lower optim.learning_rate, and look for weights that are not reached")]  # fmt: skip


def waiting(records: Records) -> list[Anomaly]:
    """The devices stand without a batch for a good part of the time."""
    steps, share = series(records, "data_wait")
    recent = share[-LAST:]
    if len(recent) < LAST or np.median(recent) < LATE:
        return []
    what = f"the devices wait for batches {np.median(recent):.0%} of the time"
    return [Anomaly("waiting for data", int(steps[-1]), what, "give the run more CPU cores, or fewer effects in "
                    "data.augment, or a larger model for the same batches")]  # fmt: skip


def skipped(records: Records) -> list[Anomaly]:
    """Steps were skipped since their loss or gradient was not finite or exploded: lately, and more than a few."""
    steps, count = series(records, "skipped")
    if len(count) < 2:
        return []
    first = max(len(count) - 1 - BEFORE, 0)
    missed, passed = count[-1] - count[first], steps[-1] - steps[first]
    if missed < 3 or missed < SKIPPED * passed:
        return []
    what = f"{missed:.0f} of the last {passed:.0f} steps were skipped, for loss or gradient was not finite or exploded"
    return [Anomaly("skipped steps", int(steps[-1]), what, "lower optim.learning_rate, lengthen optim.warmup, or train "
                    "with model.dtype=float32 to see where it comes from")]  # fmt: skip


def plateau(records: Records) -> list[Anomaly]:
    """The loss of the last quarter of the run is that of the quarter before, as surely as noise lets one say."""
    steps, loss = finite(records, "loss")
    if len(loss) < FEW:
        return []
    third, fourth = (loss[len(loss) * k // 4 : len(loss) * (k + 1) // 4] for k in (2, 3))
    mean = float(fourth.mean())
    fall = float(third.mean()) - mean
    doubt = 2 * math.sqrt(third.var() / len(third) + fourth.var() / len(fourth))
    if not fall + doubt < max(FLAT * abs(mean), 1e-6):
        return []
    way = "has not fallen" if fall > -FLAT * abs(mean) else "rises"
    what = f"the loss {way} since step {steps[len(loss) // 2]:.0f}: {mean + fall:.4g}, now {mean:.4g}"
    return [Anomaly("plateau", int(steps[-1]), what, "stop here if it is good enough; else try another "
                    "optim.learning_rate, a larger model or more data")]  # fmt: skip


def overfit(records: Records) -> list[Anomaly]:
    """Held-out loss has risen well above its lowest at the last two evaluations, while training loss fell on."""
    steps, valid = finite(records, "valid_loss")
    if len(valid) < 3:
        return []
    best = int(np.argmin(valid))
    if len(valid) - 1 - best < 2 or not (valid[-2:] > (1 + GAP) * valid[best]).all():
        return []
    now, then = _near(records, steps[-1]), _near(records, steps[best])
    if not now < then:
        return []
    what = (f"held-out loss rises, {valid[best]:.4g} at step {steps[best]:.0f} and {valid[-1]:.4g} now, "
            f"while training loss falls, {then:.4g} to {now:.4g}")  # fmt: skip
    return [Anomaly("overfitting", int(steps[-1]), what, f"use the checkpoint nearest step {steps[best]:.0f}; transpose "
                    "(data.transpose) or augment, raise model.dropout, or take a smaller model")]  # fmt: skip


def _near(records: Records, step: float) -> float:
    """Training loss up to a step: the mean of the last records before it."""
    steps, loss = finite(records, "loss")
    upto = loss[steps <= step][-LAST:]
    return float(upto.mean()) if len(upto) else math.nan


NOW = (spikes, dead, waiting, skipped)  # seen in the last records
LONG = (plateau, overfit)  # seen in a run as a whole


class Watch:
    """Tells of each anomaly of a run once, as it appears; one that went away is told again when it comes back."""

    def __init__(self, earlier: Records = ()):
        self._records, self._looked = list(earlier), 0
        self._told: dict[str, int] = {}
        self._told = {a.kind: a.step for a in find(self._records)}

    def add(self, record: Mapping[str, float]) -> list[Anomaly]:
        """What is new with this record. Runs as a whole are looked at when they have grown by a twentieth."""
        self._records.append(record)
        long = len(self._records) >= 1.05 * self._looked + 1
        found = [a for finder in NOW for a in finder(self._records[-2 * BEFORE :])]
        found += [a for finder in LONG for a in finder(self._records)] if long else []
        self._looked = len(self._records) if long else self._looked
        seen = {a.kind for a in found} | (set() if long else {"plateau", "overfitting"})
        new = [a for a in found if a.kind not in self._told or (a.kind == "spike" and a.step > self._told["spike"])]
        self._told = {k: s for k, s in self._told.items() if k in seen or k == "spike"}
        self._told |= {a.kind: a.step for a in new}
        return new
