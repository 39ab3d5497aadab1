"""How a report looks, by day and by night, and the few lines of script that show values under the pointer."""

from __future__ import annotations

DAY = ("#3b6ea8", "#c8553d", "#4f9a6b", "#8a5aa8", "#c98a1b", "#c46a92", "#3f8f9b", "#7d7a55")
NIGHT = ("#7fb0e8", "#ef8b73", "#7fcb9c", "#bd97db", "#e9b955", "#e897b9", "#7fc9d3", "#b9b58a")


def _colours(names: tuple[str, ...]) -> str:
    return "".join(f"--c{i}:{c};" for i, c in enumerate(names))


STYLE = (
    ":root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#2b2d33;--faint:#6f727b;--rule:#e6e3da;"
    "--key:#f1efe8;--warn:#fdf3dc;--edge:#e0a030;--drum:#6b6e76;" + _colours(DAY) + "}"
    "@media(prefers-color-scheme:dark){:root{--paper:#16171a;--card:#1e2024;--ink:#e9e7e2;--faint:#9a9da6;"
    "--rule:#33363d;--key:#26282d;--warn:#33290f;--edge:#b98a2c;--drum:#a3a6ae;"
    + _colours(NIGHT)
    + "}}"
    + "".join(f".s{i}{{stroke:var(--c{i})}}.f{i}{{fill:var(--c{i});background:var(--c{i})}}" for i in range(8))
    + """
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;color:var(--ink);background:var(--paper);
 max-width:78rem;margin:0 auto;padding:2.4rem 1.4rem 4rem}
h1{font-size:1.7rem;margin:0;letter-spacing:-.015em}h2{font-size:1.15rem;margin:2.4rem 0 .8rem}
h3{font-size:.95rem;margin:0;font-weight:650}a{color:inherit}
.faint,.note,.lead{color:var(--faint)}.lead{margin:.2rem 0 1.4rem}.note{font-size:.78rem;margin:.2rem 0 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:.7rem .9rem;color:var(--faint);
 font-size:.8rem}
.tile b{display:block;font-size:1.35rem;font-weight:650;letter-spacing:-.02em;color:var(--ink);
 font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));gap:.9rem}
.chart{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:.8rem .9rem .6rem}
.chart figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:.2rem 1rem;margin-bottom:.3rem}
.legend{display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.8rem;color:var(--faint)}
.legend b,.tip b{color:var(--ink);font-weight:600;font-variant-numeric:tabular-nums}
.legend i,.tip i,.run i{display:inline-block;width:.9rem;height:3px;border-radius:2px;margin-right:.35rem;
 vertical-align:middle}
.legend i.bold{height:6px}.run i{width:.75rem;height:.75rem;border-radius:3px}
.plot{position:relative}svg{display:block}.plot svg{width:100%;height:auto;touch-action:pan-y}
svg text{font-size:10.5px;fill:var(--ink);font-variant-numeric:tabular-nums}svg text.faint{fill:var(--faint)}
svg .end{text-anchor:end}svg .mid{text-anchor:middle}
.grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--faint);stroke-width:1}
.line{fill:none;stroke-width:1.5;stroke-linejoin:round}.line.bold{stroke-width:2.2}.band{opacity:.16;stroke:none}
.mark{stroke:var(--edge);stroke-width:1.6;stroke-dasharray:4 3;fill:none}
.cursor{stroke:var(--faint);stroke-width:1;visibility:hidden}
.tip{position:absolute;top:.2rem;pointer-events:none;display:none;background:var(--card);border:1px solid var(--rule);
 border-radius:8px;padding:.35rem .6rem;font-size:.78rem;white-space:nowrap;color:var(--faint);
 box-shadow:0 4px 14px #0002;z-index:2}
.warn{background:var(--warn);border-left:4px solid var(--edge);border-radius:6px;padding:.6rem .9rem;margin:.5rem 0}
.warn span{color:var(--faint)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem}
th,td{text-align:left;padding:.28rem 1.4rem .28rem 0;border-bottom:1px solid var(--rule);vertical-align:top;
 font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
th{color:var(--faint);font-weight:600}td code{font-size:.95em}td.own{font-weight:650}
details{margin-top:.9rem}summary{cursor:pointer;color:var(--faint)}
.sample{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:.8rem .9rem;margin:.7rem 0}
.sample p{margin:.1rem 0 .5rem;font-size:.82rem;color:var(--faint)}.sample p b{color:var(--ink)}
.roll text{font-size:8.5px;fill:var(--faint)}.keys{fill:var(--key)}.bars{stroke:var(--rule);fill:none}
.drum{fill:var(--drum)}.v0{opacity:.5}.v1{opacity:.75}
"""
)

SCRIPT = """
for (const figure of document.querySelectorAll('figure.chart')) {
  const data = JSON.parse(figure.querySelector('script').textContent);
  const svg = figure.querySelector('svg'), cursor = figure.querySelector('.cursor'), tip = figure.querySelector('.tip');
  const [low, high] = data.x, [left, right, width] = data.box;
  const place = step => left + (step - low) / (high - low) * (right - left);
  const near = (steps, step) => {
    let a = 0, b = steps.length - 1;
    while (b - a > 1) { const m = (a + b) >> 1; if (steps[m] <= step) a = m; else b = m; }
    return step - steps[a] <= steps[b] - step ? a : b;
  };
  const shown = v => data.unit === '%' ? (100 * v).toPrecision(3) + '%'
    : data.unit === 'B' ? (v / 1e9).toPrecision(3) + ' GB'
    : Math.abs(v) >= 1000 ? Math.round(v).toLocaleString('en') : String(+v.toPrecision(4));
  svg.addEventListener('pointermove', event => {
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * width;
    const wanted = low + (at - left) / (right - left) * (high - low);
    const found = data.lines.map(line => [line, near(line.steps, wanted)]);
    const first = found.reduce((a, b) =>
      Math.abs(b[0].steps[b[1]] - wanted) < Math.abs(a[0].steps[a[1]] - wanted) ? b : a);
    const step = first[0].steps[first[1]], x = place(step);
    cursor.setAttribute('x1', x); cursor.setAttribute('x2', x); cursor.style.visibility = 'visible';
    tip.replaceChildren('step ' + step.toLocaleString('en'));
    for (const [line, i] of found) {
      const row = document.createElement('div'), swatch = document.createElement('i'), value = document.createElement('b');
      swatch.className = 'f' + line.colour;
      value.textContent = shown(line.values[i]);
      row.append(swatch, line.name + ' ', value, line.steps[i] === step ? '' : ' at ' + line.steps[i].toLocaleString('en'));
      tip.append(row);
    }
    tip.style.display = 'block';
    const px = x / width * box.width, wide = tip.offsetWidth;
    tip.style.left = Math.max(px + 12 + wide > box.width ? px - wide - 12 : px + 12, 0) + 'px';
  });
  svg.addEventListener('pointerleave', () => { tip.style.display = 'none'; cursor.style.visibility = 'hidden'; });
}
"""
