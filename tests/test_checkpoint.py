"""Checkpoints: equal on any mesh, described, verified, and every damage named."""

import json
import resource
import shutil
import threading
import time

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from runs import BIGRAM, BigramConfig, bigram, bigram_config  # noqa: F401

from aurljax import checkpoint, config, params, state
from aurljax import mesh as meshes
from aurljax.checkpoint import CheckpointError

VOCAB = 24
META = {"config": {"seed": 3}, "codec": {"name": "score", "options": {}, "fingerprint": "abc", "vocabulary": VOCAB}}


def parts(width: int = 8, **sections) -> config.Parts:
    return config.Parts(bigram_config(**sections), None, BIGRAM, BigramConfig(VOCAB, d_model=width))


def filled(p: config.Parts, step: int = 0) -> state.State:
    """A state with numbers of its own in every leaf (frozen ones those of every step), on the mesh in force.

    Drawn on the host, so that nothing is compiled.
    """
    mesh, rng = jax.sharding.get_mesh(), np.random.default_rng(0)

    def leaf(a):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            return jax.random.key(step)
        spec = a.sharding.spec if a.sharding is not None else PartitionSpec()
        return jax.device_put(rng.integers(0, 1000, a.shape).astype(a.dtype), NamedSharding(mesh, spec))

    abstract = state.abstract(p)
    frozen = jax.tree.map(leaf, abstract.frozen)
    rng = np.random.default_rng(step)
    return jax.tree.map(leaf, abstract.replace(frozen={})).replace(frozen=frozen)


def on(data: int = 1, model: int = 1):
    return meshes.use(meshes.make(data, model))


def numbers(tree):
    return [np.asarray(jax.random.key_data(x)) if x.dtype.name.startswith("key") else np.asarray(x)
            for x in jax.tree.leaves(tree)]  # fmt: skip


def same(a, b) -> bool:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(numbers(a), numbers(b), strict=True))


def saved(workdir, p, *steps, keep=9):
    """Saves a state of each step; returns the last."""
    with checkpoint.Checkpoints(workdir, keep, META) as checkpoints:
        for step in steps:
            checkpoints.save(now := filled(p, step), step)
    return now


def spec_of(p):
    return params.abstract(p.family.spec(p.model))


def test_a_state_survives_on_every_mesh(tmp_path):
    p = parts(optim={"ema": 0.9})
    with on(4, 2):
        now = saved(tmp_path, p, 5)
        assert same(now, checkpoint.load_state(tmp_path, state.abstract(p)))
    for shape in ((1, 1), (2, 4), (8, 1)):
        with on(*shape):
            loaded = checkpoint.load_state(tmp_path, state.abstract(p))
            assert same(now, loaded)
            for leaf, want in zip(jax.tree.leaves(loaded), jax.tree.leaves(state.abstract(p)), strict=True):
                assert leaf.sharding.mesh.devices.size == shape[0] * shape[1]
                assert want.sharding is None or leaf.aval.sharding.is_equivalent_to(want.sharding, want.ndim)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_generation_loads_the_averaged_weights_if_there_are_any_and_the_frozen_ones(tmp_path, ema):
    p = parts(optim={"ema": ema})
    with on():
        now = saved(tmp_path, p, 5)
        weights = checkpoint.load_params(tmp_path / "checkpoints" / "5", spec_of(p))
        assert same(weights, {**(now.ema if ema else now.params), **now.frozen})
        shutil.rmtree(tmp_path / "checkpoints" / "5" / "train")  # generation needs no optimizer
        if ema:
            shutil.rmtree(tmp_path / "checkpoints" / "5" / "params")
        assert same(weights, checkpoint.load_params(tmp_path, spec_of(p)))


def test_only_the_newest_are_kept_and_a_workdir_means_its_newest(tmp_path):
    with on():
        now = saved(tmp_path, parts(), 5, 10, 200, keep=2)
        assert checkpoint.steps(tmp_path / "checkpoints") == [10, 200]
        for path in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "200"):
            assert checkpoint.find(path) == tmp_path / "checkpoints" / "200"
        assert same(now, checkpoint.load_state(tmp_path, state.abstract(parts())))


def test_saving_a_step_again_keeps_the_first(tmp_path):
    with on():
        first = saved(tmp_path, parts(), 5)
        with checkpoint.Checkpoints(tmp_path, 2, META) as checkpoints:
            checkpoints.save(filled(parts(), 6), 5)
        assert same(first, checkpoint.load_state(tmp_path, state.abstract(parts())))


def test_a_checkpoint_describes_itself(tmp_path):
    with on():
        saved(tmp_path, parts(), 5)
    found = checkpoint.describe(tmp_path)
    assert (found.step, dict(found.metadata)) == (5, META)
    assert set(found.items) == {"params", "train"}
    assert found.items["params"]["head"].shape == (8, VOCAB)


def test_another_codec_is_refused_by_name(tmp_path):
    class Codec:
        name, fingerprint = "event", "def"

    with on():
        saved(tmp_path, parts(), 5)
    found = checkpoint.describe(tmp_path)
    with pytest.raises(CheckpointError, match="trained on codec score abc .* not on event def"):
        checkpoint.check_codec(found, Codec())
    Codec.fingerprint = "abc"
    checkpoint.check_codec(found, Codec())


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_every_damaged_file_is_named(tmp_path, damage):
    p = parts()
    with on():
        saved(tmp_path / "run", p, 5)
        step = tmp_path / "run" / "checkpoints" / "5"
        names = list(json.loads((step / "digests.json").read_text()))
        files = {str(f.relative_to(step)) for f in step.rglob("*") if f.is_file()}
        assert {*names, "digests.json"} == files
        for name in names:
            copy = tmp_path / "copy" / "checkpoints" / "5"
            shutil.rmtree(tmp_path / "copy", ignore_errors=True)
            shutil.copytree(step.parent, copy.parent)
            data = (copy / name).read_bytes()
            if damage == "delete":
                (copy / name).unlink()
            else:
                cut = data[: len(data) // 2]
                flipped = cut + bytes([data[len(cut)] ^ 1]) + data[len(cut) + 1 :] if data else b"x"
                (copy / name).write_bytes(cut if damage == "cut" and data else flipped)
            with pytest.raises(CheckpointError, match=str(copy / name)):
                checkpoint.load_state(tmp_path / "copy", state.abstract(p))
            if name == "_CHECKPOINT_METADATA":
                with pytest.raises(CheckpointError, match=str(copy / name)):
                    checkpoint.describe(tmp_path / "copy")


def test_digests_themselves_are_needed(tmp_path):
    with on():
        saved(tmp_path, parts(), 5)
        digests = tmp_path / "checkpoints" / "5" / "digests.json"
        digests.write_text("{")
        with pytest.raises(CheckpointError, match="digests.json is damaged"):
            checkpoint.load_params(tmp_path, spec_of(parts()))
        digests.unlink()
        with pytest.raises(CheckpointError, match="not finished"):
            checkpoint.load_params(tmp_path, spec_of(parts()))


def test_what_a_kill_leaves_is_cleared_or_finished(tmp_path):
    """A save cut short is gone, one that lacks only its digests gets them."""
    with on():
        now = saved(tmp_path, parts(), 5)
        folder = tmp_path / "checkpoints"
        (folder / "5" / "digests.json").unlink()
        (folder / "7.orbax-checkpoint-tmp").mkdir()
        assert checkpoint.steps(folder) == [5]
        with checkpoint.Checkpoints(tmp_path, 2, META):
            pass
        assert sorted(f.name for f in folder.iterdir()) == ["5", "frozen"]
        assert same(now, checkpoint.load_state(tmp_path, state.abstract(parts())))


def test_the_first_leaf_that_does_not_fit_is_named(tmp_path):
    with on():
        saved(tmp_path, parts(), 5)
        abstract = spec_of(parts())
        leaf = jax.ShapeDtypeStruct((3,), np.float32)
        for other, words in (
            ({**abstract, "more": leaf}, "leaf params/more is missing"),
            ({k: v for k, v in abstract.items() if k != "bias"}, "leaf params/bias has no place"),
            ({**abstract, "bias": leaf}, r"leaf params/bias is float32\[24\] and the config asks for float32\[3\]"),
            ({**abstract, "bias": jax.ShapeDtypeStruct((24,), np.int32)}, r"is float32\[24\] .* int32\[24\]"),
            ({**abstract, "teacher": leaf}, "leaf frozen/teacher is"),
        ):
            with pytest.raises(CheckpointError, match=words):
                checkpoint.load_params(tmp_path, other)
        with pytest.raises(CheckpointError, match="leaf params/embed/tokens is"):
            checkpoint.load_state(tmp_path, state.abstract(parts(width=16)))
        with pytest.raises(CheckpointError, match="leaf train/opt_state/.* has no place"):
            checkpoint.load_state(tmp_path, state.abstract(parts(optim={"optimizer": "lion"})))
        with pytest.raises(CheckpointError, match="leaf ema/.* is missing"):
            checkpoint.load_state(tmp_path, state.abstract(parts(optim={"ema": 0.9})))


def test_a_checkpoint_older_than_a_guard_is_loaded_with_what_it_remembers_at_the_beginning(tmp_path):
    p = parts()
    with on(4, 2):
        now = filled(p, 5)
        old = now.replace(guard={name: now.guard[name] for name in ("skipped", "in_a_row")})
        with checkpoint.Checkpoints(tmp_path, 1, META) as checkpoints:
            checkpoints.save(old, 5)
        loaded = checkpoint.load_state(tmp_path, state.abstract(p))
        assert same(loaded, now.replace(guard=state.guard() | old.guard))


def test_paths_that_hold_no_checkpoint_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "7" / "params").mkdir(parents=True)
    reasons = {"none": "no such path", "file": "no checkpoint", "empty": "no checkpoint", "7": "not finished"}
    for name, words in reasons.items():
        with pytest.raises(CheckpointError, match=words) as caught:
            checkpoint.describe(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=f"cannot write checkpoints to {tmp_path / 'file' / 'checkpoints'}"):
        checkpoint.Checkpoints(tmp_path / "file", 2, META)


def test_a_failure_in_the_background_is_told_by_the_next_call(tmp_path):
    """The folder disappears under a run."""
    refused = pytest.raises(CheckpointError, match="cannot write checkpoints to")
    with on(), refused, checkpoint.Checkpoints(tmp_path / "run", 2, META) as checkpoints:
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").write_text("")
        checkpoints.save(filled(parts()), 5)


def test_a_full_disk_is_told_in_one_sentence(tmp_path, caplog):
    """As the kernel tells it when a file may not grow; the checkpoint before stays whole."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with on():
        first = saved(tmp_path, parts(), 5)
        try:
            with (
                pytest.raises(CheckpointError, match=f"cannot write checkpoints to {tmp_path}"),
                checkpoint.Checkpoints(tmp_path, 2, META) as checkpoints,
            ):
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
                checkpoints.save(filled(parts(), 6), 6)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert checkpoint.steps(tmp_path / "checkpoints") == [5]
        assert same(first, checkpoint.load_state(tmp_path, state.abstract(parts())))
    assert not [r for r in caplog.records if "orbax" in r.pathname]


def test_nothing_is_left_running_and_nothing_is_printed(tmp_path, capfd, caplog):
    with on():
        threads = threading.active_count()
        saved(tmp_path, parts(), 5)
        checkpoint.load_state(tmp_path, state.abstract(parts()))
        for _ in range(100):
            if threading.active_count() <= threads:
                break
            time.sleep(0.05)
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if "orbax" in r.pathname]
