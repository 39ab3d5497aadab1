"""The measure of filling in: the same answers behind more or less of the piece."""

import numpy as np
import pytest
from test_tasks import band, model

from aurljax.data import order
from aurljax.errors import UserError
from aurljax.evaluate import infilling, likelihood


def one_loudness(score):
    """The score with one velocity: it is written where it differs from the last one of its track, wherever that stands."""
    notes = score.notes.copy()
    notes["velocity"] = 64
    return score.replace(notes=notes)


def test_answers_are_the_same_ids_on_either_side():
    m = model(length=1024)
    v = m.codec.vocabulary
    score = one_loudness(band(3, bars=8))
    (both, left, plain), notes = infilling.questions(m, score, 0.5, (1, 2))
    assert np.array_equal(both[0][both[1] :], left[0][left[1] :]) and len(both[0]) > len(left[0])
    assert both[0][both[1] - 1] == v.id("fill") and both[0][-1] == v.id("filled")
    of = (v.kind[both[0][both[1] :]] == v.index["pitch"]).sum()
    assert notes == of == (v.kind[plain[0][plain[1] :]] == v.index["pitch"]).sum()
    assert plain[0][plain[1]] == v.id("bar") and m.codec.holes(both[0])[0][0] > 0


def test_nats_are_those_of_the_rows():
    m, scores = model(length=1024), [band(seed, bars=8) for seed in range(2)]
    found = infilling.of_scores(m, scores, 0.5, 1)
    rows = [infilling.questions(m, s, 0.5, (1, order.HOLES, i)) for i, s in enumerate(scores)]
    for at, nats in enumerate((found.both, found.left, found.written_on)):
        alone = sum(likelihood.row_sums(m, [row[0][at]])[0, 1] for row in rows)
        assert nats == pytest.approx(alone, rel=1e-5)
    assert (
        found.notes == sum(row[1] for row in rows) and found.summary()["both_nats_per_note"] == found.both / found.notes
    )
    with pytest.raises(UserError, match="writes no holes"):
        infilling.of_scores(model(infill=False), scores)
