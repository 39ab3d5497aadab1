"""Checkpoints: what a run saves, and how it is found, verified and loaded on any mesh.

    WORKDIR/checkpoints/120/    one step, committed by Orbax at once or not at all
        params  ema  train      items: weights; averaged weights, if kept; optimizer, step, key, guard
        digests.json            SHA-256 of every file of the step, written after the commit
    WORKDIR/checkpoints/frozen/ weights that are not optimised, if the family has any; saved once
    WORKDIR/checkpoints/best    which step is the best by run.best, if that is set; a path to it is one to that step

A step's metadata holds config, codec, data provenance and versions: a checkpoint describes itself. Generation reads one
item: `ema` where it exists, else `params`. Leaves are saved under their paths, so a checkpoint does not depend on the
classes an optimizer library uses.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import threading
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from aurljax import atomic, mesh, paths
from aurljax.errors import UserError
from aurljax.state import State
from aurljax.state import guard as fresh_guard
from aurljax.survival import leftovers, retention
from aurljax.survival.retention import Best, Retention

Tree = Any
FOLDER, FROZEN, DIGESTS = "checkpoints", "frozen", "digests.json"

# Orbax narrates through absl, and logs each exception on its way through its threads; they reach us as exceptions.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


class CheckpointError(UserError):
    """A path that holds no checkpoint, or one that is damaged or belongs to another model."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk: folder, step, items (leaf path -> object with .shape and .dtype), and its metadata."""

    path: epath.Path
    step: int
    items: Mapping[str, Mapping[str, Any]]
    metadata: Mapping[str, Any]  # config, codec, data, versions


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of a run that is writing them; one save at a time, in the background.

    The newest `keep` stay, those whose step is a multiple of `every`, the best by the metric `best`, and those that
    `pin` names. begin: the step that the stage begins after; that stays, and what was best until then is beaten by any.
    """

    def __init__(self, workdir: epath.PathLike, keep: int, metadata: Mapping[str, Any], every: int = 0, best: str = "",
                 begin: int = 0):  # fmt: skip
        self.directory = paths.absolute(workdir) / FOLDER
        self._retention, self._metric, self._best, self._begin = Retention(keep, every), best, None, begin
        self._metadata = dict(metadata)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        with _writing(self.directory):
            self._clear()
            self._context = ocp.Context()
            # Else a folder that cannot be made leaves threads waiting for it, and the process cannot end.
            self._context.async_options.create_directories_asynchronously = False
            self._orbax = ocp.training.Checkpointer(
                self.directory,
                context=self._context,
                preservation_policy=self._retention,
            )
            for step in steps(self.directory):  # a run killed between commit and digests
                self._seal(self.directory / str(step))
            self._find_best()

    def _clear(self) -> None:
        """Removes what a run killed in a save left. Orbax would do it in the background, and take the frozen weights
        that are being written meanwhile for such a leftover."""
        if jax.process_index() == 0:
            leftovers.clear(self.directory)

    def _find_best(self) -> None:
        """The best so far; a run killed between a commit and the word that it is the best gets that word now."""
        self._best = retention.read(self.directory)
        for step in steps(self.directory) if self._metric else ():
            new = step > (self._best.step if self._best else -1)
            if new and (better := self._better(step, told(self.directory / str(step)).get("metrics", {}))):
                self._best = better
                self._name_best(better)
        self.pin()

    def improves(self, metrics: Mapping[str, float]) -> bool:
        """Whether a checkpoint with these metrics would be the best."""
        return self._better(self._begin + 1, metrics) is not None

    def _better(self, step: int, metrics: Mapping[str, float]) -> Best | None:
        value = metrics.get(retention.name(self._metric), math.nan)
        old = None if self._best is None or self._best.step <= self._begin < step else self._best
        new = not math.isnan(value) if old is None else old.beaten(self._metric, value)
        return Best(step, self._metric, value) if self._metric and new else None

    def _name_best(self, best: Best) -> None:
        if jax.process_index() == 0:
            retention.write(self.directory, best)

    def pin(self, *steps: int) -> None:
        """Keeps these steps, and the best, until it is called again."""
        self._retention.pinned = {self._begin, *steps, *([self._best.step] if self._best else [])}
        self._pins = steps

    def save(self, state: State, step: int, metrics: Mapping[str, float] | None = None) -> None:
        """Starts saving the state of a step, unless it is saved already; returns once the devices' memory is copied.

        metrics: those measured at this step, by which it may become the best.
        """
        self.wait()
        if step in steps(self.directory):
            return
        more = {"metrics": dict(metrics)} if metrics else {}
        with _writing(self.directory):
            self._save_frozen(state)
            saving = self._orbax.save_checkpointables_async(
                step, _items(state), force=True, custom_metadata=self._metadata | more
            )
        if better := self._better(step, metrics or {}):
            self._best = better
        self._thread = threading.Thread(target=self._finish, args=(saving, self.directory / str(step), better))
        self._thread.start()

    def wait(self) -> None:
        """Returns when the last save is on disk with its digests; UserError if it could not be written."""
        if self._thread is not None:
            self._thread.join()
        failure, self._failure, self._thread = self._failure, None, None
        self.pin(*self._pins)  # the best may be another now
        if failure is not None:
            with _writing(self.directory):
                raise failure

    def settle(self) -> None:
        """`wait`, for all processes together: what was saved can be read by each."""
        self.wait()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints")

    def __exit__(self, *_: object) -> None:
        """Waits for the last save, then lets go of the folder."""
        try:
            self.wait()
        finally:
            with _writing(self.directory):
                try:
                    self._orbax.close()
                finally:
                    with contextlib.suppress(OSError):  # why the save failed says more; the next run tries again
                        self._clear()

    def _save_frozen(self, state: State) -> None:
        path = self.directory / FROZEN
        if state.frozen and not path.exists():
            with self._context:
                ocp.save_checkpointables(path, {FROZEN: _flat(state.frozen)})
            self._seal(path)

    def _finish(self, saving: Any, path: epath.Path, best: Best | None) -> None:
        try:
            saving.result()
            self._seal(path)
            if best is not None:
                self._name_best(best)
        except Exception as error:  # told by the next call, in the thread of the run
            self._failure = error
            if jax.process_index() == 0 and path.is_dir() and not (path / DIGESTS).exists():  # a disk filled meanwhile
                leftovers.remove(path)

    @staticmethod
    def _seal(path: epath.Path) -> None:
        if jax.process_index() == 0 and not (path / DIGESTS).exists():
            seal(path)


def steps(directory: epath.PathLike) -> list[int]:
    """The committed steps in a folder of checkpoints, ascending."""
    directory = epath.Path(directory)
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit()) if directory.is_dir() else []


def find(path: epath.PathLike) -> epath.Path:
    """The folder of one step: the path itself, the step that a path to `best` means, or else the newest step under a
    run's workdir or checkpoints folder."""
    path = paths.absolute(path)  # Orbax wants them whole
    if path.name == retention.BEST and (best := retention.read(path.parent)):
        path = path.parent / str(best.step)
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}: there is no such path")
    if path.name.isdigit() and (path / "params").is_dir():
        return path
    for folder in (path / FOLDER, path):
        if found := steps(folder):
            sealed = [step for step in found if (folder / str(step) / DIGESTS).exists()]  # one may just be written
            return folder / str((sealed or found)[-1])
    raise CheckpointError(f"{path} holds no checkpoint; give a run's folder or a step such as RUN/{FOLDER}/120")


def describe(path: epath.PathLike) -> Saved:
    """What a checkpoint says of itself; reads no weights."""
    path = find(path)
    verify(path, ())
    with _reading(path):
        described = ocp.checkpointables_metadata(path)
    return Saved(path, int(path.name), described.metadata, described.custom_metadata or {})


def load_params(path: epath.PathLike, abstract: Tree) -> Tree:
    """The weights to generate with, averaged ones where the run kept them, on the mesh in force.

    `abstract` is the family's whole tree, `params.abstract(spec)`; the first leaf that does not fit is named.
    """
    path = find(path)
    item = "ema" if (path / "ema").is_dir() else "params"
    if not (path.parent / FROZEN).is_dir():
        return _load(path, {item: abstract})[item]
    fixed = {leaf.split("/")[0] for leaf in _leaves(path.parent / FROZEN)[FROZEN]}
    weights = _load(path, {item: {name: tree for name, tree in abstract.items() if name not in fixed}})[item]
    return weights | _load_frozen(path, {name: tree for name, tree in abstract.items() if name in fixed})


def told(path: epath.Path) -> Mapping[str, Any]:
    """The metadata of a committed step, its digests written or not."""
    with _reading(path):
        return ocp.checkpointables_metadata(path).custom_metadata or {}


def check_params(found: Saved, abstract: Tree) -> None:
    """Refuses a checkpoint whose weights are not those of a family's whole tree, as `load_params` would; reads none."""
    fixed = _leaves(found.path.parent / FROZEN)[FROZEN] if (found.path.parent / FROZEN).is_dir() else {}
    _compare(found.path, "params", {**found.items["params"], **fixed}, _flat(abstract))


def load_state(path: epath.PathLike, abstract: State) -> State:
    """The whole state of a run, on the mesh in force; the first leaf that does not fit is named."""
    path = find(path)
    verify(path, _parts(abstract))
    known = _leaves(path).get("train") or {}
    later = {name for name in abstract.guard if f"guard/{name}" not in known} - {"skipped", "in_a_row"}
    guard = {name: leaf for name, leaf in abstract.guard.items() if name not in later}
    loaded = _read(path, _parts(abstract.replace(guard=guard)))
    train = loaded.pop("train")
    begun = fresh_guard()  # what older checkpoints do not hold is as at the beginning
    train["guard"] |= {name: jax.device_put(begun[name], mesh.concrete(abstract.guard[name]).sharding) for name in later}
    return State(**{"ema": {}} | loaded, **train, frozen=_load_frozen(path, abstract.frozen))


def check_codec(saved: Saved, codec: Any) -> None:
    """Refuses a codec whose ids mean something else than those the checkpoint was trained on."""
    trained = saved.metadata["codec"]
    if trained["fingerprint"] != codec.fingerprint:
        raise CheckpointError(
            f"checkpoint {saved.path} was trained on codec {trained['name']} {trained['fingerprint']} with options "
            f"{trained['options']}, not on {codec.name} {codec.fingerprint}; use the codec options and version it names"
        )


def seal(path: epath.PathLike) -> None:
    """Writes the digest of every file of a step beside them."""
    path = epath.Path(path)
    files = sorted(_files(path))
    with ThreadPoolExecutor(4) as pool:
        digests = dict(zip(files, pool.map(lambda name: _digest(path / name), files), strict=True))
    atomic.write(path / DIGESTS, json.dumps(digests, indent=0))


def verify(path: epath.PathLike, items: Collection[str]) -> None:
    """Compares the files of some items, and the step's own, with their digests; names the first that differs."""
    path = epath.Path(path)
    if not (path / DIGESTS).exists():
        raise CheckpointError(f"{path} has no {DIGESTS}: its saving was not finished; resume its run or take another")
    try:
        digests = json.loads((path / DIGESTS).read_text())
    except ValueError as error:
        raise CheckpointError(f"{path / DIGESTS} is damaged; take another step or a fresh copy") from error
    names = [name for name in digests if "/" not in name or name.split("/")[0] in items]

    def damage(name: str) -> str:
        if not (path / name).exists():
            return "is missing"
        return "" if _digest(path / name) == digests[name] else "is damaged (its SHA-256 differs)"

    with ThreadPoolExecutor(4) as pool:
        for name, what in zip(names, pool.map(damage, names), strict=True):
            if what:
                raise CheckpointError(f"file {path / name} of the checkpoint {what}; take another step or a fresh copy")


def _parts(state: State) -> dict[str, Tree]:
    """Item -> tree, for a state of arrays or of their abstractions."""
    train = {name: getattr(state, name) for name in ("opt_state", "step", "key", "guard")}
    return {"params": state.params, "train": train} | ({"ema": state.ema} if state.ema else {})


def _items(state: State) -> dict[str, dict[str, jax.Array]]:
    return {name: _flat(tree) for name, tree in _parts(state).items()}


def _flat(tree: Tree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _load(path: epath.Path, wanted: dict[str, Tree]) -> dict[str, Tree]:
    """Verifies, compares and loads items: name -> tree of abstract leaves."""
    verify(path, wanted)
    return _read(path, wanted)


def _read(path: epath.Path, wanted: dict[str, Tree]) -> dict[str, Tree]:
    flat = {item: _flat(tree) for item, tree in wanted.items()}
    saved = _leaves(path)
    for item, leaves in flat.items():
        _compare(path, item, saved.get(item, {}), leaves)
    with _reading(path):
        loaded = ocp.load_checkpointables(path, mesh.concrete(flat))
    return {
        item: jax.tree.unflatten(jax.tree.structure(tree), [loaded[item][name] for name in flat[item]])
        for item, tree in wanted.items()
    }


def _load_frozen(step: epath.Path, abstract: Tree) -> Tree:
    return _load(step.parent / FROZEN, {FROZEN: abstract})[FROZEN] if abstract else {}


def _leaves(path: epath.Path) -> Mapping[str, Mapping[str, Any]]:
    with _reading(path):
        return ocp.checkpointables_metadata(path).metadata


def _compare(path: epath.Path, item: str, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        leaf = f"checkpoint {path}: leaf {item}/{name}"
        if name not in saved:
            raise CheckpointError(f"{leaf} is missing, which the model or optimizer of the config has")
        if name not in wanted:
            raise CheckpointError(f"{leaf} has no place in the model or optimizer that the config names")
        have, want = _form(saved[name]), _form(wanted[name])
        if have != want:
            raise CheckpointError(f"{leaf} is {have} and the config asks for {want}")


def _form(leaf: Any) -> str:
    """Shape and dtype in words: float32[8, 16]; a random key as the integers it is saved as."""
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return f"{leaf.dtype}{list(leaf.shape)}"


def _files(path: epath.Path, prefix: str = "") -> Iterator[str]:
    for entry in path.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        elif not entry.name.startswith(DIGESTS):
            yield prefix + entry.name


def _digest(path: epath.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _writing(directory: epath.Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"cannot write checkpoints to {directory}: {_first_line(error)}") from error


@contextlib.contextmanager
def _reading(path: epath.Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ocp.errors.InvalidLayoutError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
