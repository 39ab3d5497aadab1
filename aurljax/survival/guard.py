"""What a run bears before it skips an update, goes back to a checkpoint, or gives up: the section `guard` of a config."""

from __future__ import annotations

from dataclasses import dataclass

from aurljax.fields import at_least, require


@dataclass(frozen=True)
class Guard:
    """An update is skipped if loss or gradient is not finite, or if the gradient's norm is a spike.

    After `patience` skipped in a row, or when samples have collapsed (`aurljax.survival.collapse`), the run goes back to
    the last good checkpoint with a lower learning rate, and on with the batches that follow.
    """

    spike: float = 10.0  # times the running mean of the gradient's norm; 0: only what is not finite is skipped
    after: int = 100  # updates before spikes are looked for
    patience: int = 20  # updates skipped in a row
    rollbacks: int = 2  # how often a run goes back before it gives up
    backoff: float = 0.5  # what the learning rate is multiplied by each time
    samples_after: int = 1000  # steps before samples (run.sample_every) are judged; 0: they never are

    def __post_init__(self) -> None:
        at_least(self, "guard", spike=0, after=1, patience=1, rollbacks=0, samples_after=0)
        require(self.spike == 0 or self.spike > 1, f"guard.spike={self.spike} must be above 1, or 0 for none")
        require(0 < self.backoff <= 1, f"guard.backoff={self.backoff} must be above 0 and at most 1")
