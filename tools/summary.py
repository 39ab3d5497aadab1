"""What a demonstration found: one page to look at, one table for the terminal."""

from __future__ import annotations

import base64
import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STYLE = """
body { font: 16px/1.55 system-ui, sans-serif; color: #2b2d33; background: #fbfaf7; max-width: 68rem; margin: 3rem auto;
       padding: 0 1.5rem }
h1 { font-size: 1.9rem; margin: 0 0 .3rem } h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem }
p.lead, .faint { color: #6b6e76 } img { max-width: 100%; display: block } audio { width: 100%; margin: .3rem 0 1.8rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem; margin: 1.8rem 0 }
.tile { background: white; border: 1px solid #e6e3da; border-radius: 10px; padding: 1rem 1.2rem }
.tile b { display: block; font-size: 1.75rem; font-weight: 650; letter-spacing: -.02em }
.bar { display: grid; grid-template-columns: 13rem 1fr 4rem; align-items: center; gap: .8rem; margin: .35rem 0 }
.bar i { display: block; height: 1.1rem; border-radius: 4px; background: #d6d2c6 } .bar.us i { background: #c8553d }
.bar.us { font-weight: 650 } .bar span:last-child { font-variant-numeric: tabular-nums }
table { border-collapse: collapse } td { padding: .2rem 1.6rem .2rem 0; font-variant-numeric: tabular-nums }
code { font-size: .9em; background: #f0ede4; border-radius: 4px; padding: .1em .35em }
"""


@dataclass(frozen=True)
class Summary:
    """Pieces by split; figures and samples as tools/demo.py collects them; seconds by phase."""

    pieces: Mapping[str, int]
    figures: Mapping[str, Any]
    samples: Sequence[Mapping[str, Any]]
    phases: Mapping[str, float]

    @property
    def nats(self) -> dict[str, float]:
        """Nats per token on the held-out pieces, the model's last."""
        model = self.figures["model"]
        rows = {"uniform over the grammar": model["uniform_nats_per_id"]} | self.figures["floors"]["test"]
        return rows | {"this model": model["nats_per_id"]}

    @property
    def facts(self) -> dict[str, str]:
        """The headline figures in words."""
        valid, shared = sum(s["valid"] for s in self.samples), [s["shared"] for s in self.samples]
        bach = self.figures["shared_by_bach"]
        return {
            "nats per held-out token": f"{self.nats['this model']:.3f}",
            "valid MIDI": f"{valid} of {len(self.samples)}",
            "notes in the longest passage shared with a training piece": f"{max(shared)}",
            "the same, median (held-out Bach: "
            f"median {bach['median']:g}, longest {bach['most']})": f"{statistics.median(shared):g}",
            "from notes to music": _clock(sum(self.phases.values())),
        }

    def html(self, out: Path) -> str:
        """One self-contained page (sounds and MIDI files are linked) for the folder `out`."""
        model, top = self.figures["model"], max(self.nats.values())
        tiles = "".join(f'<div class="tile"><b>{v}</b>{html.escape(k)}</div>' for k, v in self.facts.items())
        bars = "".join(
            f'<div class="bar{" us" * (name == "this model")}"><span>{html.escape(name)}</span>'
            f'<i style="width:{100 * nats / top:.1f}%"></i><span>{nats:.3f}</span></div>'
            for name, nats in self.nats.items()
        )
        music = "".join(_sample(out, s) for s in self.samples)
        rows = "".join(f"<tr><td>{name}</td><td>{_clock(s)}</td></tr>" for name, s in self.phases.items())
        return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>aurljax: chorales after Bach</title><style>{STYLE}</style>
<h1>Chorales after Bach</h1>
<p class="lead">A model of {self.figures["parameters"]:,} parameters, trained on this machine for
{self.figures["steps"]:,} steps on {self.pieces["train"]} of Bach's four-part chorales, wrote the music below.</p>
<div class="tiles">{tiles}</div>
<h2>How well it predicts chorales it has not heard</h2>
<p class="faint">Nats per token over {model["pieces"]} pieces whose melodies do not occur in training; less is better.
The n-grams (interpolated modified Kneser-Ney) were fitted to the same pieces in the same keys. The model's mass on what
the grammar forbids: {model["illegal_mass"]:.2%}. In other words: {model["nats_per_note"]:.2f} nats per note,
{model["bits_per_second"]:.2f} bits per second.</p>
{bars}
<h2>The run</h2>
{_picture(out / "loss.png", "loss over steps")}
<h2>What it wrote</h2>
<p><a href="player.html">All of it in one player</a>, voice by voice, with what was given and what is new told apart.</p>
{music}
<h2>Time and places</h2>
<table>{rows}</table>
<p>Checkpoint <code>{html.escape(str(out / "run"))}</code>, music <code>{html.escape(str(out / "samples"))}</code>,
corpus <code>{html.escape(str(out / "corpus"))}</code></p>
</html>
"""

    def text(self, out: Path) -> str:
        """The same for a terminal."""
        lines = ["", "nats per token on held-out chorales (less is better)"]
        lines += [f"  {name:28}{nats:8.3f}" for name, nats in self.nats.items()]
        lines += ["", *(f"  {value:>10}  {name}" for name, value in list(self.facts.items())[1:]), ""]
        lines += [f"  {name:12}{_clock(seconds):>8}" for name, seconds in self.phases.items()]
        files = {"look": "summary.html", "play": "player.html", "loss": "loss.png"}
        lines += ["", *(f"  {what:9} {out / name}" for what, name in files.items())]
        lines += [f"  listen    {out / 'samples' / s['name']}.wav (.mid, .png)" for s in self.samples]
        return "\n".join(lines)


def _sample(out: Path, sample: Mapping[str, Any]) -> str:
    if not sample["notes"]:
        return f"<p>{html.escape(sample['title'])} has no notes: the model ended it at once.</p>"
    path = f"samples/{sample['name']}"
    length = f"{sample['notes']} notes, {sample['bars']} bars, {_clock(sample['seconds'])}"
    return (
        f"{_picture(out / f'{path}.png', sample['title'])}"
        f'<div class="faint">{length} · longest shared passage: {html.escape(sample["shared_text"])} · '
        f'<a href="{path}.mid">MIDI</a></div><audio controls preload="none" src="{path}.wav"></audio>'
    )


def _picture(path: Path, text: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"
