"""One self-contained page of HTML for a run, or for several side by side: no network, no files beside it."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Sequence
from typing import Any

from etils import epath

from aurljax import atomic, paths
from aurljax.errors import UserError
from aurljax.records.anomalies import series
from aurljax.report import roll, runs
from aurljax.report.chart import Chart, Line, number
from aurljax.report.runs import Run, Sample
from aurljax.report.style import SCRIPT, STYLE

MARK = "<!doctype html><!-- a report of aurljax -->"  # how a file is known that may be written anew
COLOURS = 8

# Title, what the axis counts, whether it is logarithmic, and the curves: name in the records, name for people.
PANELS: tuple[tuple[str, str, bool, tuple[tuple[str, str], ...]], ...] = (
    ("Loss", "nats per id", True, (("loss", "training"), ("valid_loss", "held out"))),
    ("Accuracy", "%", False, (("accuracy", "training"), ("valid_accuracy", "held out"))),
    ("Gradient norm, before clipping", "", True, (("grad_norm", "norm"),)),
    ("Learning rate", "", False, (("learning_rate", "rate"),)),
    ("Speed", "tokens per second", False, (("tokens_per_second", "tokens"),)),
    ("Use of the devices, of their peak", "%", False, (("mfu", "share"),)),
    ("Time without a batch", "%", False, (("data_wait", "share"),)),
    ("Memory", "B", False, (("device_memory", "device"), ("host_memory", "host"))),
    ("Samples, per piece", "", False, (("sample_notes", "notes"), ("sample_bars", "bars"), ("sample_pitches", "pitches"))),
)  # fmt: skip
UNSHOWN = ("step", "epoch", "weight", "skipped", "in_a_row", "windows", "augmented", "device_memory_peak",
           "valid_weight", "stage")  # fmt: skip


def write(workdirs: Sequence[epath.PathLike], out: epath.PathLike) -> epath.Path:
    """Writes the report of some workdirs to the file `out`, at once or not at all; returns its path.

    UserError: a folder that holds no run, a damaged one, a file there that is no report, a path that cannot be written.
    """
    out, found = paths.named(out), [runs.read(w) for w in workdirs]
    try:
        if out.exists() and not out.read_text().startswith(MARK):
            raise UserError(f"{out} exists and is no report; choose another --out")
    except (OSError, ValueError) as error:
        raise UserError(f"{out} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    atomic.write(out, page(found))
    return out


def page(found: Sequence[Run]) -> str:
    """The page."""
    names = _names(found)
    title = names[0] if len(found) == 1 else f"{len(found)} runs"
    when = time.strftime("%Y-%m-%d %H:%M")
    parts = [
        f'{MARK}<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>aurljax: {html.escape(title)}</title><style>{STYLE}</style>",
        f'<h1>{html.escape(title)}</h1><p class="lead">{_lead(found)} · written {when}</p>',
        _tiles(found[0]) if len(found) == 1 else _overview(found, names),
        _anomalies(found, names),
        f'<h2>Curves</h2><div class="charts">{"".join(c.svg() for c in charts(found, names)) or "no record yet"}</div>',
        _samples(found, names),
        _config(found[0]) if len(found) == 1 else _differences(found, names),
        f"<script>{SCRIPT}</script></html>\n",
    ]
    return "\n".join(p for p in parts if p)


def charts(found: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """A chart for each panel, and for each further number that the records hold; empty ones draw nothing."""
    known = {name for panel in PANELS for name, _ in panel[3]} | set(UNSHOWN)
    more = dict.fromkeys(k.removeprefix("valid_") for run in found for r in run.records for k in r if k not in known)
    drawn = {name: "samples" for name in more if name.startswith("sample_")}
    extra = tuple((n, "", False, ((n, drawn.get(n, "training")), (f"valid_{n}", "held out"))) for n in more)
    panels = (*PANELS, *extra)
    return [_chart(panel, found, names) for panel in (panels if len(found) == 1 else _split(panels))]


def _split(panels: Sequence[Any]) -> list[Any]:
    """Panels for several runs, which have a colour each: what is not one number, trained and held out, apart."""
    out = []
    for title, unit, logarithmic, curves in panels:
        pair = len(curves) == 1 or any(key.startswith("valid_") for key, _ in curves)
        parts = [(title, curves)] if pair else [(f"{title}: {label}", ((key, label),)) for key, label in curves]
        out += [(name, unit, logarithmic, c) for name, c in parts]
    return out


def _chart(panel: Any, found: Sequence[Run], names: Sequence[str]) -> Chart:
    title, unit, logarithmic, curves = panel
    lines = []
    for r, run in enumerate(found):
        for k, (key, label) in enumerate(curves):
            steps, values = series(run.records, key)
            if len(found) > 1:
                label = names[r] if len(curves) == 1 else f"{names[r]}, {label}"
            colour = (r if len(found) > 1 else k) % COLOURS
            lines.append(Line(label, colour, steps, values, bold=key.startswith("valid_")))
    marks = [(a.step, a.text) for run in found for a in run.anomalies if a.kind == "spike"] if title == "Loss" else []
    marks += [mark for run in found for mark in run.beginnings]
    return Chart(title, unit, lines, logarithmic, marks)


def _names(found: Sequence[Run]) -> list[str]:
    """The folders' names, with as many folders above as tell them apart."""
    places = [paths.absolute(run.path).parts for run in found]
    for count in range(1, max(map(len, places)) + 1):
        names = ["/".join(p[-count:]) for p in places]
        if len(set(names)) == len(set(places)):
            break
    return names


def _lead(found: Sequence[Run]) -> str:
    if len(found) > 1:
        return html.escape(", ".join(str(run.path) for run in found))
    c = found[0].config
    return html.escape(f"{found[0].path} · {c['model.family']} on {c['data.corpus']}, codec {c['codec.name']}")


def _facts(run: Run) -> dict[str, str]:
    """The headline figures of a run."""
    steps, valid = series(run.records, "valid_loss")
    facts = {"step": f"{run.step:,} of {run.steps:,}"}
    for key, label, unit in (("epoch", "epochs", ""), ("loss", "training loss", "")):
        if (value := run.last(key)) is not None:
            facts[label] = number(value, unit)
    if len(valid):
        best = int(valid.argmin())
        facts["lowest held-out loss"] = f"{number(valid[best])} at {steps[best]:,.0f}"
    for key, label, unit in (("tokens_per_second", "tokens per second", ""), ("mfu", "of the devices' peak", "%"),
                             ("data_wait", "of the time without a batch", "%")):  # fmt: skip
        if (value := run.last(key)) is not None:
            facts[label] = number(value, unit)
    if skipped := run.last("skipped"):
        facts["steps skipped"] = f"{skipped:,.0f}"
    return facts


def _tiles(run: Run) -> str:
    tiles = "".join(f'<div class="tile"><b>{html.escape(v)}</b>{html.escape(k)}</div>' for k, v in _facts(run).items())
    return f'<div class="tiles">{tiles}</div>'


def _overview(found: Sequence[Run], names: Sequence[str]) -> str:
    facts = [_facts(run) for run in found]
    labels = list(dict.fromkeys(k for f in facts for k in f))
    head = "".join(f'<th class="run"><i class="f{i % COLOURS}"></i>{html.escape(n)}</th>' for i, n in enumerate(names))
    rows = "".join(
        f"<tr><th>{html.escape(k)}</th>" + "".join(f"<td>{html.escape(f.get(k, ''))}</td>" for f in facts) + "</tr>"
        for k in labels
    )
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{rows}</table></div>'


def _anomalies(found: Sequence[Run], names: Sequence[str]) -> str:
    told = "".join(
        f'<div class="warn"><b>{html.escape(f"{name}: " * (len(found) > 1) + a.kind)}</b> · '
        f"{html.escape(a.what)}. <span>What to do: {html.escape(a.advice)}.</span></div>"
        for name, run in zip(names, found, strict=True)
        for a in run.anomalies
    )
    return f"<h2>What stands out</h2>{told}" if told else ""


def _samples(found: Sequence[Run], names: Sequence[str]) -> str:
    drawn = "".join(
        _sample(s, f"{name}: " * (len(found) > 1))
        for name, run in zip(names, found, strict=True)
        for s in run.samples[: None if len(found) == 1 else 1]
    )
    return f"<h2>What it writes</h2>{drawn}" if drawn else ""


def _sample(sample: Sample, prefix: str) -> str:
    score, how = sample.score, sample.made
    end = round(float(score.seconds(score.end)))
    music = f"{len(score):,} notes, {score.bar_count:,} bars, {end // 60}:{end % 60:02}"
    music += f" (the first {roll.MOST_BARS} bars are drawn)" if score.bar_count > roll.MOST_BARS else ""
    made = "how it was made is not recorded"
    if how:
        prompt = f"continuing {how['prompt']}" if how["prompt"] else "from nothing"
        made = (f"written at step {how['step']:,} {prompt}, seed {how['seed']}, temperature {how['temperature']:g}, "
                f"weights {how['weights']}, at most {how['most_ids']:,} ids")  # fmt: skip
    path = html.escape(prefix + sample.path, quote=True)
    picture = roll.svg(score, path) or "<p>no notes: the model ended the piece at once</p>"
    text = f"<p><b>{path}</b> · {music} · {html.escape(made)}</p>"
    return f'<div class="sample">{text}<div class="scroll">{picture}</div></div>'


def _config(run: Run) -> str:
    """What differs from the defaults, and all fields folded away."""
    own = [k for k in run.config if run.config[k] != run.defaults.get(k)]
    rows = "".join(_row(k, [run.config[k]], run.defaults.get(k), k in own) for k in own)
    every = "".join(_row(k, [v], run.defaults.get(k), k in own) for k, v in run.config.items())
    head = "<tr><th>field</th><th>value</th><th>default</th></tr>"
    return (
        f'<h2>Config, where it is not the default</h2><div class="scroll"><table>{head}{rows}</table></div>'
        f"<details><summary>all {len(run.config)} fields</summary>"
        f'<div class="scroll"><table>{head}{every}</table></div></details>'
    )


def _differences(found: Sequence[Run], names: Sequence[str]) -> str:
    """The fields in which the runs differ."""
    fields = dict.fromkeys(k for run in found for k in run.config)
    other = [k for k in fields if len({_text(run.config.get(k)) for run in found}) > 1]
    head = "".join(f'<th class="run"><i class="f{i % COLOURS}"></i>{html.escape(n)}</th>' for i, n in enumerate(names))
    rows = "".join(_row(k, [run.config.get(k) for run in found], found[0].defaults.get(k)) for k in other)
    if not rows:
        return "<h2>Config</h2><p>The configs are equal.</p>"
    top = f"<tr><th>field</th>{head}<th>default</th></tr>"
    return f'<h2>What differs in their configs</h2><div class="scroll"><table>{top}{rows}</table></div>'


def _row(name: str, values: Sequence[Any], default: Any, own: bool = False) -> str:
    cells = "".join(f"<td{' class=own' if own else ''}>{html.escape(_text(v))}</td>" for v in values)
    return (
        f'<tr><td><code>{html.escape(name)}</code></td>{cells}<td class="faint">{html.escape(_text(default))}</td></tr>'
    )


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
