"""Typed id ranges: every id has a kind, a value within the kind, and a name."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json

import numpy as np

from aurljax.errors import UserError


class CodecError(UserError):
    """Ids that no codec of this kind wrote."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Consecutive ranges of ids, one per kind, in the order of `kinds` = ((kind, number of ids), ...)."""

    kinds: tuple[tuple[str, int], ...]

    @functools.cached_property
    def _starts(self) -> dict[str, int]:
        sizes = [size for _, size in self.kinds]
        return dict(zip((k for k, _ in self.kinds), np.cumsum([0, *sizes])[:-1].tolist(), strict=True))

    def __len__(self) -> int:
        return sum(size for _, size in self.kinds)

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """Number of each kind, in order."""
        return {kind: i for i, (kind, _) in enumerate(self.kinds)}

    def size(self, kind: str) -> int:
        """How many ids the kind has."""
        return dict(self.kinds)[kind]

    def id(self, kind: str, value: int = 0) -> int:
        """The id of a kind's value."""
        if not 0 <= value < self.size(kind):
            raise ValueError(f"{kind} has values 0..{self.size(kind) - 1}, not {value}")
        return self._starts[kind] + value

    @functools.cached_property
    def kind(self) -> np.ndarray:
        """[V] number of the kind of each id."""
        return np.repeat(np.arange(len(self.kinds)), [size for _, size in self.kinds]).astype(np.int32)

    @functools.cached_property
    def value(self) -> np.ndarray:
        """[V] value of each id within its kind."""
        return np.concatenate([np.arange(size) for _, size in self.kinds]).astype(np.int32)

    def name(self, id: int) -> str:
        """A readable name such as 'pitch 60' or 'bar'."""
        kind, size = self.kinds[self.kind[id]]
        return kind if size == 1 else f"{kind} {self.value[id]}"

    def names(self, ids) -> list[str]:
        """The names of a sequence of ids."""
        return [self.name(i) for i in ids]

    def written(self, tokens) -> np.ndarray:
        """int64 ids without the padding (0) behind them; CodecError where one is not of this vocabulary."""
        ids = np.asarray(tokens, np.int64)
        ids = ids[: len(ids) - np.argmax(ids[::-1] != 0)] if ids.any() else ids[:0]
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(self):
            raise CodecError(f"ids must lie in 0..{len(self) - 1}; this sequence has {ids.min()}..{ids.max()}")
        return ids

    def fingerprint(self, **options) -> str:
        """16 hex digits that change with any kind, size, order or option."""
        text = json.dumps([self.kinds, sorted(options.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]
