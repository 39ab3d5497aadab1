"""Everything that made a checkpoint, read from the checkpoint itself and from its run's metrics beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from aurljax import checkpoint, config
from aurljax.checkpoint import DIGESTS, Saved
from aurljax.export import provenance
from aurljax.fields import leaves
from aurljax.records import metrics
from aurljax.records.journal import shown

UNKNOWN = "not recorded"


def inspect(path: epath.PathLike) -> dict[str, Any]:
    """What made the checkpoint at `path` (a step or a run's folder), as plain values; reads no weights.

    UserError naming the path: no checkpoint there, a damaged one, or a config that this version cannot read.
    """
    found = checkpoint.describe(path)
    meta = found.metadata
    tree = config.to_dict(config.from_dict(meta["config"]))  # fields that came later are at their defaults
    usual, own = leaves(config.defaults(tree)), leaves(tree)
    data = meta.get("data", {})
    digests = data.get("corpora") or [d for d in (data.get("corpus"),) if d]  # older checkpoints name one
    licences = data.get("licences") or [""] * len(digests)
    return {
        "checkpoint": str(found.path),
        "step": found.step,
        "fingerprint": provenance.fingerprint(found.path),
        "stage": meta.get("stage"),
        "config": {k: {"value": v, "default": usual.get(k)} for k, v in own.items() if v != usual.get(k)},
        "code": meta.get("code"),
        "packages": meta.get("versions", {}),
        "device": meta.get("device"),
        "corpora": [{"path": p, "digest": d, "licence": n}
                    for p, d, n in zip(_paths(tree), digests, licences, strict=False)],
        "codec": meta["codec"],
        "metrics": at_step(found),
        "files": files(found.path),
    }  # fmt: skip


def at_step(found: Saved) -> dict[str, float]:
    """The last value of each metric up to the step: those in the checkpoint, else those in metrics.jsonl of its run."""
    known: dict[str, float] = {}
    for record in metrics.read(found.path.parent.parent):
        if record["step"] <= found.step:
            known |= record
    known |= found.metadata.get("metrics") or {}
    return {k: v for k, v in known.items() if k != "step"}


def files(path: epath.Path) -> dict[str, int]:
    """Bytes of each file that the checkpoint's digests name, and of the digests."""
    names = [*json.loads((path / DIGESTS).read_text()), DIGESTS]
    return {name: (path / name).stat().length for name in names if (path / name).exists()}


def lines(found: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    code, device, codec = found["code"], found["device"], found["codec"]
    out = [f"{found['checkpoint']}: step {found['step']:,}, fingerprint {found['fingerprint']}"]
    if stage := found["stage"]:
        out[0] += f" (stage {stage['number'] + 1} of {stage['of']}, {stage['name']}, begun after step {stage['begin']:,})"
    rows = [(k, f"{json.dumps(v['value'])}  (default {json.dumps(v['default'])})") for k, v in found["config"].items()]
    out += _table("config, where it is not the default", rows)
    out += _table("what made it", [("code", _code(code)), ("device", _device(device)), *found["packages"].items()])
    out += _table(
        "data", [(c["path"], f"{c['digest']}  {c['licence'] or 'no licence noted'}") for c in found["corpora"]]
    )
    options = ", ".join(f"{k}={v}" for k, v in codec.get("options", {}).items() if v) or "no options"
    out += _table("codec", [(codec["name"], f"{codec['fingerprint']}  {codec.get('vocabulary', '?')} ids, {options}")])
    out += _table("metrics until this step", [(k, shown(k, v)) for k, v in found["metrics"].items()])
    items: dict[str, list[int]] = {}
    for name, size in found["files"].items():
        items.setdefault(name.split("/")[0] if "/" in name else "beside them", []).append(size)
    rows = [(k, f"{_size(sum(v))} in {len(v)} file{'s' * (len(v) > 1)}") for k, v in items.items()]
    return out + _table("files", [*rows, ("all", _size(sum(found["files"].values())))])


def _table(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return ["", title, *(f"  {name:{width}}  {value}" for name, value in rows)] if rows else ["", f"{title}: {UNKNOWN}"]


def _code(code: Mapping[str, Any] | None) -> str:
    if not code:
        return UNKNOWN
    text = f"aurljax {code['aurljax'] or '?'}"
    text += f", commit {code['commit']}" if code["commit"] else ", installed, no commit known"
    changed = code["changed"]
    return text + (f", with changes in {', '.join(changed[:3])}" + " and more" * (len(changed) > 3) if changed else "")


def _device(device: Mapping[str, Any] | None) -> str:
    if not device:
        return UNKNOWN
    mesh = " x ".join(f"{n} {k}" for k, n in device["mesh"].items())
    count = device["processes"]
    text = f"{device['kind']} ({device['platform']}), mesh {mesh}, {count} process{'es' * (count > 1)}"
    return f"{text}, on {device['host']}"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _paths(tree: Mapping[str, Any]) -> list[str]:
    return [tree["data"]["corpus"], *(path for path, _ in tree["data"]["mixture"])]
