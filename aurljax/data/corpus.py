"""A corpus: a folder of ArrayRecord shards with one score a record, and a manifest that lists them."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import threading
from typing import Any

from etils import epath

from aurljax.data import cache
from aurljax.data.record import digest, pack, unpack
from aurljax.errors import UserError
from aurljax.music.score import Score

__all__ = ["Corpus", "CorpusError", "Piece", "digest", "pack", "unpack"]

VERSION = 3
MANIFEST = "manifest.json"
SHARD_PIECES = 1024  # pieces in every shard but the last
SPLITS = ("train", "valid", "test")


class CorpusError(UserError):
    """A corpus that is missing, damaged or of another version."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """One piece as the manifest knows it."""

    id: str  # path of its file, from the name of the folder that was ingested
    split: str
    digest: str  # of the music
    cluster: str  # equal for pieces that are one tune
    source: str  # sha256 of its file
    notes: int
    tracks: int
    bars: int
    seconds: float
    meters: dict[str, int]  # bars by meter, "3/4"
    programs: dict[str, int]  # notes by General MIDI program, "0" to "127"; those of drums under "drums"


class Corpus:
    """The pieces under `path`, read on demand; safe to share between threads.

    Raises CorpusError naming the path if the folder holds no corpus, or the shard and record if one is damaged.
    """

    def __init__(self, path: epath.PathLike):
        self.path = epath.Path(path)
        self.manifest = self._load()
        self.pieces = tuple(Piece(**row) for row in self.manifest["pieces"])
        self._splits = collections.defaultdict(list)
        for i, piece in enumerate(self.pieces):
            self._splits[piece.split].append(i)
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()

    @property
    def digest(self) -> str:
        """Hex hash of every piece's music, source, place and split."""
        return self.manifest["digest"]

    @property
    def licence(self) -> str:
        """The note on its licence that was given to ingest, or nothing."""
        return self.manifest["licence"]

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, i: int) -> Score:
        shard, record = divmod(range(len(self))[i], SHARD_PIECES)
        reader = self._readers.get(shard) or self._open(shard)
        try:
            return unpack(reader.read([record])[0])
        except (ValueError, KeyError, RuntimeError, IndexError) as e:
            raise CorpusError(
                f"{self._shard(shard)}: record {record} ({self.pieces[i].id}) is damaged ({e}); "
                "delete the corpus and ingest its files again"
            ) from e

    def split(self, name: str) -> list[int]:
        """Indices of the pieces of a split; UserError if it has none."""
        if name not in self._splits:
            has = ", ".join(f"{k} {len(v)}" for k, v in sorted(self._splits.items()))
            raise CorpusError(f"{self.path}: no piece in split '{name}' (pieces: {has}); ingest with other fractions")
        return list(self._splits[name])

    def check(self) -> None:
        """Raises CorpusError, naming it, if a shard is missing, cut or unreadable (records are checked when read)."""
        for shard in range(len(self.manifest["shards"])):
            self._open(shard)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": str(self.path)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])

    def _load(self) -> dict[str, Any]:
        path = self.path / MANIFEST
        try:
            manifest = json.loads(path.read_text())
            version, claimed = manifest["version"], manifest["digest"]
        except FileNotFoundError:
            raise CorpusError(f"{self.path}: no corpus here ({MANIFEST} is missing); make one with ingest") from None
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise CorpusError(f"{path}: the manifest cannot be read ({e}); ingest the files again") from e
        if version != VERSION:
            raise CorpusError(f"{path}: version {version}, this program reads {VERSION}; ingest the files again")
        if digest_of(manifest) != claimed:
            raise CorpusError(f"{path}: the manifest was changed after it was written; ingest the files again")
        return manifest

    def _shard(self, shard: int) -> epath.Path:
        return self.path / self.manifest["shards"][shard]["name"]

    def _open(self, shard: int) -> Any:
        """The shard's reader, opened once; no readahead, for records are read in any order."""
        from array_record.python.array_record_module import ArrayRecordReader

        with self._lock:
            if shard in self._readers:
                return self._readers[shard]
            path, row = self._shard(shard), self.manifest["shards"][shard]
            size = path.stat().length if path.exists() else None
            if size != row["bytes"]:
                found = "is missing" if size is None else f"has {size} bytes, not {row['bytes']}"
                raise CorpusError(f"{path}: the shard {found}; delete the corpus and ingest its files again")
            reader = ArrayRecordReader(str(self._local(path)), "readahead_buffer_size:0")
            if not reader.ok() or reader.num_records() != row["records"]:
                raise CorpusError(f"{path}: the shard is damaged; delete the corpus and ingest its files again")
            self._readers[shard] = reader
            return reader

    def _local(self, path: epath.Path) -> epath.Path:
        """`path`, or the copy of a bucket's shard in the cache: ArrayRecord reads local files only."""
        if "://" not in str(path):
            return path
        return epath.Path(cache.hold(f"shards/{self.digest}/{path.name}", path.read_bytes))


def digest_of(manifest: dict[str, Any]) -> str:
    """Hex hash of what a manifest says about its pieces (not of how its shards are compressed)."""
    rows = json.dumps([manifest["version"], manifest["pieces"]], sort_keys=True)
    return hashlib.sha256(rows.encode()).hexdigest()[:32]
