"""Config: what is refused and how, overrides, round trips, lightness."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurljax import config, optim, sections
from aurljax.errors import UserError
from aurljax.fields import ConfigError

CONFIGS = Path(__file__).parent.parent / "configs"
TINY = str(CONFIGS / "tiny.py")


@pytest.mark.parametrize("spec", ["tiny.py", "demo.py", "jsb.py", "decoder.py", "decoder.py:base", "decoder.py:large"])
def test_every_config_file_loads(spec):
    c = config.load(f"{CONFIGS}/{spec}", ["data.corpus=somewhere"])
    assert c.data.corpus == "somewhere" and hash(c) == hash(config.load(f"{CONFIGS}/{spec}", ["data.corpus=somewhere"]))
    assert config.from_dict(json.loads(json.dumps(config.to_dict(c)))) == c


def test_the_size_is_an_argument_of_the_file():
    small, base = (config.load(f"{CONFIGS}/decoder.py:{s}") for s in ("small", "base"))
    assert config.load(f"{CONFIGS}/decoder.py") == small
    assert config.build(small).model.d_model < config.build(base).model.d_model


def test_codec_decides_vocabulary_and_features():
    parts = config.build(config.load(TINY))
    assert parts.model.vocab == len(parts.codec.vocabulary)
    assert dict(parts.model.features) == parts.codec.feature_sizes


@given(
    steps=st.integers(100, 10**6),
    rate=st.floats(1e-6, 1, allow_subnormal=False),
    low=st.integers(-12, 0),
    high=st.integers(0, 12),
    width=st.sampled_from([16, 32, 64]),
    scan=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_overrides_arrive_with_their_type_and_survive_json(steps, rate, low, high, width, scan):
    c = config.load(
        TINY,
        [f"run.steps={steps}", f"--config.optim.learning_rate={rate}", f"data.transpose=({low}, {high})"]
        + [f"config.model.d_model={width}", f"model.scan={scan}", "codec.options.microtiming=true"],
    )
    assert (c.run.steps, c.optim.learning_rate, c.data.transpose) == (steps, rate, (low, high))
    model = config.build(c).model
    assert (model.d_model, model.scan, c.codec.make().microtiming) == (width, scan, True)
    assert config.from_dict(json.loads(json.dumps(config.to_dict(c)))) == c


def test_a_default_spelled_out_changes_nothing():
    c = config.load(TINY)
    spelled = [f"codec.options.{k}={v}" for k, v in c.codec.options] + [f"model.{k}={v}" for k, v in c.model.options]
    assert {"codec.options.microtiming=False", "model.scan=False"} <= set(spelled)
    assert config.load(TINY, spelled) == c


def test_integers_become_floats_and_nothing_else_changes_type():
    assert config.load(TINY, ["optim.weight_decay=0"]).optim.weight_decay == 0.0
    assert config.load(TINY, ["data.corpus=123"]).data.corpus == "123"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.learningrate=1", "did you mean optim.learning_rate"),
        ("optim.batch=8", "did you mean data.batch"),
        ("model.dmodel=8", "did you mean model.d_model"),
        ("modle.d_model=8", "did you mean model.d_model"),
        ("sed=1", "did you mean seed"),
        ("model.vocab=3", "comes from the codec"),
        ("model.family=decodr", "did you mean 'decoder'"),
        ("optim.optimizer=adam", "did you mean adamw"),
        ("optim.schedule=cos", "did you mean cosine"),
        ("codec.name=scores", "score"),
        ("codec.options.nothing=1", "nothing"),
        ("run.steps=ten", "run.steps must be int, not 'ten'"),
        ("run.steps=1e3", "run.steps must be int, not 1000.0"),
        ("run.steps=true", "run.steps must be int, not True"),
        ("optim.ema=none", "optim.ema must be float, not None"),
        ("data.transpose=3", "data.transpose must be tuple[int, int], not 3"),
        ("data.transpose=(1, 2, 3)", "data.transpose must be"),
        ("run.steps", "write run.steps=VALUE"),
        ("run=3", "run is a section"),
    ],
)
def test_refusals_name_the_field_and_the_way_out(override, words):
    with pytest.raises(UserError) as caught:
        config.load(TINY, [override])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["run.steps=0", "run.keep=0", "run.log_every=0", "run.eval_batches=0", "run.samples=0", "run.eval_every=-1"]
    + ["run.checkpoint_every=-1", "run.sample_every=-1", "optim.learning_rate=0", "optim.ema=1", "optim.b1=1.0"]
    + ["optim.b2=-0.1", "optim.end_factor=2", "optim.clip=-1", "optim.weight_decay=-1", "optim.accumulation=3"]
    + ["optim.accumulation=0", "optim.warmup=101", "optim.warmup=-1", "data.length=1", "data.batch=0", "mesh.data=0"]
    + ["mesh.model=0", "data.transpose=(1, 2)", "data.transpose=(-13, 0)", "seed=-1", "model.d_model=33"]
    + ["model.heads=0", "model.dropout=1.0"],
)
def test_impossible_values_are_refused_by_name(override):
    with pytest.raises(UserError, match=override.split("=")[0].rpartition(".")[2]):
        config.load(TINY, [override])


def test_unusable_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no config file at nowhere.py"):
        config.load("nowhere.py")
    (tmp_path / "empty.py").write_text("x = 1")
    with pytest.raises(ConfigError, match="empty.py has no get_config"):
        config.load(str(tmp_path / "empty.py"))
    with pytest.raises(ConfigError, match=r"size 'tall': choose one of small, base, large"):
        config.load(f"{CONFIGS}/decoder.py:tall")
    (tmp_path / "broken.py").write_text("def get_config(:")
    with pytest.raises(ConfigError, match=r"broken.py"):
        config.load(str(tmp_path / "broken.py"))


def test_differences_are_told_by_dotted_name():
    a, b = (config.to_dict(config.load(TINY, o)) for o in ([], ["optim.b2=0.9", "model.layers=3"]))
    assert config.differences(a, b) == ["model.layers 2 -> 3", "optim.b2 0.95 -> 0.9"]
    assert config.differences(a, a) == []


def test_tables_hold_what_config_allows():
    assert tuple(optim.OPTIMIZERS) == sections.OPTIMIZERS
    assert tuple(optim.SHAPES) == sections.SCHEDULES


def test_importing_config_imports_no_jax():
    code = "import sys, aurljax.config; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
