"""Reports: what they show, that they stand alone, what they refuse, what they cost a run."""

import html.parser
import io
import itertools
import json
import math
import re
import time
import xml.etree.ElementTree as xml

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import bigram, bigram_config, make_corpus  # noqa: F401
from scores import random_score

from aurljax import config
from aurljax.cli import main
from aurljax.errors import UserError
from aurljax.music.score import Score
from aurljax.records import metrics
from aurljax.records.progress import Progress
from aurljax.report import page, roll, runs
from aurljax.report.chart import HEIGHT, LEFT, POINTS, RIGHT, WIDTH, Chart, Line, Scale, number
from aurljax.report.live import SHARE, Reporter
from aurljax.samples import made
from aurljax.train import train


def workdir(folder, records, **sections):
    """A folder as a run leaves it."""
    folder.mkdir(parents=True)
    tree = config.to_dict(config.from_dict({"run": {"steps": 1000}, **sections}))
    (folder / "config.json").write_text(json.dumps(tree))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


def curve(n: int = 100, scale: float = 1.0) -> list[dict]:
    rows = [{"step": 10 * i, "loss": scale * (1 + 4 * i**-0.4), "grad_norm": 1.0, "learning_rate": 1e-3, "skipped": 0.0,
             "device_memory": 2e9, "mfu": 0.4} for i in range(1, n + 1)]  # fmt: skip
    return rows + [{"step": 100 * i, "valid_loss": scale * (1.1 + 4 * (10 * i) ** -0.4)} for i in range(1, n // 10 + 1)]


class Page(html.parser.HTMLParser):
    """Collects the text, the tags with their attributes, and what scripts of data hold; notices tags left open."""

    def __init__(self, source: str):
        super().__init__()
        self.words, self.tags, self.data, self.open = [], [], [], []
        self.feed(source)
        assert self.open == ["html"], self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag == "html":
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"] and self.tags[-1][1].get("type"):
            self.data.append(json.loads(data))
        elif self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def svgs(source: str) -> list[xml.Element]:
    """The pictures, each well-formed."""
    return [xml.fromstring(found) for found in re.findall(r"<svg.*?</svg>", source, re.S)]


def test_a_page_shows_a_run_and_needs_nothing_else(tmp_path):
    folder = workdir(tmp_path / "<b>run</b>", curve(), data={"batch": 16}, optim={"b2": 0.99})
    (folder / "samples").mkdir()
    random_score(3, 80).save_midi(folder / "samples/0000500-0.mid")
    random_score(4, 80).save_midi(folder / "samples/0001000-0.mid")
    parts = config.build(config.load("configs/tiny.py"))
    (folder / "samples/0001000.json").write_text(json.dumps(made(parts, 1000)))
    source = page.page([runs.read(folder)])
    found = Page(source)
    assert "1,000 of 1,000 step" in found.text and "<b>run</b>" in found.text  # escaped, so it is text
    for title in ("Loss", "Gradient norm", "Learning rate", "Memory", "Use of the devices"):
        assert title in found.text
    assert "Accuracy" not in found.text and "Time without a batch" not in found.text  # nothing is known of them
    assert "optim.b2 0.99 0.95" in found.text and "data.batch 16 8" in found.text
    assert "samples/0001000-0.mid" in found.text and "0000500" not in found.text
    assert "step 1,000 from nothing, seed 1000, temperature 1, weights as trained" in found.text
    assert not [a for _, attributes in found.tags for k, a in attributes.items() if k in ("src", "href")]
    assert "http" not in source and "url(" not in source and "@import" not in source
    assert len(svgs(source)) == len(found.data) + 1 == 6
    loss = found.data[0]["lines"]
    assert [line["name"] for line in loss] == ["training", "held out"]
    assert loss[0]["steps"] == list(range(10, 1001, 10)) and loss[0]["values"][-1] == pytest.approx(1.634, abs=1e-3)


def test_runs_side_by_side(tmp_path):
    a = workdir(tmp_path / "a", curve(), optim={"b2": 0.99})
    b = workdir(tmp_path / "b", curve(scale=1.1), optim={"learning_rate": 0.002})
    bad = curve()
    bad[50]["loss"] *= 5
    c = workdir(tmp_path / "x/a", bad)
    found = Page(page.page([runs.read(a), runs.read(b)]))
    assert "2 runs" in found.text and "optim.b2 0.99 0.95 0.95" in found.text
    assert "optim.learning_rate 0.001 0.002 0.001" in found.text and "data.batch" not in found.text
    assert [(line["name"], line["colour"]) for line in found.data[0]["lines"]] == [
        ("a, training", 0), ("a, held out", 0), ("b, training", 1), ("b, held out", 1)]  # fmt: skip
    both = Page(page.page([runs.read(a), runs.read(c)]))  # of one name: told apart by their paths
    assert "x/a: spike" in both.text and "the loss leapt" in both.text and "What to do: if it comes again" in both.text
    assert "Memory: device" in both.text
    assert "The configs are equal." in Page(page.page([runs.read(c)] * 2)).text


def test_points_lie_where_the_axes_say():
    steps = np.arange(1, 101) * 10.0
    values = np.geomspace(5, 0.5, 100)
    for logarithmic in (True, False):
        (root,) = svgs(Chart("t", "nats", [Line("x", 0, steps, values)], logarithmic).svg())
        points = np.array([p.split() for p in root.find("path[@class='line s0']").get("d")[1:].split("L")], float)
        ticks = [(float(t.text), float(t.get("y")) - 3.5) for t in root.findall("text[@class='end']")]
        assert len(ticks) >= 3
        labels, places = np.array(ticks).T
        shape = np.log if logarithmic else np.asarray
        line = np.polyfit(shape(labels), places, 1)
        np.testing.assert_allclose(np.polyval(line, shape(values)), points[:, 1], atol=0.3)
        ticks = [(float(t.text.replace(",", "")), float(t.get("x"))) for t in root.findall("text[@class='mid']")]
        line = np.polyfit(*np.array(ticks).T, 1)
        np.testing.assert_allclose(np.polyval(line, steps), points[:, 0], atol=0.2)
        assert (points[:, 0] >= LEFT - 0.1).all() and (points[:, 0] <= WIDTH - RIGHT + 0.1).all()
        assert (points[:, 1] > 0).all() and (points[:, 1] < HEIGHT).all()


def test_many_records_are_means_with_a_band():
    n = 10 * POINTS + 7
    values = np.random.default_rng(0).random(n)
    source = Chart("t", "", [Line("x", 0, np.arange(1.0, n + 1), values)]).svg()
    (line,) = json.loads(re.search(r"<script.*?>(.*?)</script>", source)[1])["lines"]
    assert len(line["values"]) == POINTS and line["steps"][-1] == n
    ends = np.array([0, *line["steps"]])
    means = [values[a:b].mean() for a, b in itertools.pairwise(ends)]
    np.testing.assert_allclose(line["values"], means, rtol=1e-4)
    assert "each point the mean of up to 11 records" in source and 'class="band' in source
    assert "mean of" not in Chart("t", "", [Line("x", 0, np.arange(1.0, 9), values[:8])]).svg()


@given(st.lists(st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf])), max_size=30),
       st.booleans(), st.sampled_from(["", "%", "B", "nats"]))  # fmt: skip
def test_any_values_can_be_drawn(values, logarithmic, unit):
    line = Line("x", 0, np.arange(1.0, len(values) + 1), np.array(values, float))
    source = Chart("t & <u>", unit, [line, Line("none", 1, np.empty(0), np.empty(0))], logarithmic).svg()
    finite = [v for v in values if math.isfinite(v)]
    assert bool(source) == bool(finite)
    for root in svgs(source):
        assert "nan" not in source.replace("none", "") and "inf" not in source
        assert len(root.findall("text[@class='end']")) >= 2


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9))
def test_ticks_are_round_and_within(low, size):
    high = low + size
    if high > low:
        ticks = Scale(low, high, 0, 1).ticks(5)
        near = 1e-6 * size + 1e-14 * max(abs(low), abs(high))  # what a float can tell apart there
        assert len(ticks) <= 8 and all(low - near <= t <= high + near for t in ticks)


def test_numbers():
    assert [number(*v) for v in ((0.4321, "%"), (2.5e9, "B"), (12345.6,), (0.00031,), (0.0,), (1.23456,), (3e-4,))] == [
        "43.2%", "2.5 GB", "12,346", "3.10e-4", "0", "1.235", "3e-4"]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_a_roll_has_a_box_for_every_note(seed):
    score = random_score(seed, 60)
    root = xml.fromstring(roll.svg(score, "x"))
    shown = sum(score.onset < score.bar_ticks[: roll.MOST_BARS + 1][-1])
    boxes = "".join(p.get("d") for p in root.findall("path") if "v" in p.get("class", "")[-2:])
    assert boxes.count("h-") == shown
    assert roll.svg(Score()) == ""


def test_what_is_no_run_is_refused(tmp_path, capsys):
    good = workdir(tmp_path / "good", curve())
    broken = workdir(tmp_path / "broken", curve())
    (broken / "config.json").write_text("{")
    torn = workdir(tmp_path / "torn", curve())
    (torn / "metrics.jsonl").write_text("no json\n")
    (tmp_path / "mine.html").write_text("<p>mine")
    for given_, out, named in [
        (tmp_path / "none", "out.html", "none holds no run"), (broken, "out.html", "broken/config.json"),
        (torn, "out.html", "torn/metrics.jsonl"), (good, "mine.html", "mine.html exists and is no report"),
        (good, "gone/out.html", "gone/out.html cannot be written"),
    ]:  # fmt: skip
        assert main(["report", str(given_), "--out", str(tmp_path / out)]) == 2
        assert named in (said := capsys.readouterr().err) and len(said.splitlines()) == 1
    assert (tmp_path / "mine.html").read_text() == "<p>mine" and not (tmp_path / "out.html").exists()
    for _ in range(2):  # a report is replaced
        assert main(["report", str(good), str(good), "--out", str(tmp_path / "out.html")]) == 0
        assert capsys.readouterr().out == f"{tmp_path}/out.html\n"
    assert len(list(tmp_path.glob("out.html*"))) == 1


def test_a_run_reports_itself(tmp_path):
    def sample(parts, weights, step, folder):
        folder.mkdir(parents=True, exist_ok=True)
        random_score(step, 40).save_midi(folder / f"{step:07}-0.mid")
        (folder / f"{step:07}.json").write_text(json.dumps(made(parts, step)))
        return {"notes": 40.0}

    settings = bigram_config(
        data={"corpus": make_corpus(tmp_path), "length": 32}, mesh={"data": 1}, optim={"ema": 0.9},
        run={"steps": 6, "log_every": 1, "eval_every": 2, "eval_batches": 1, "sample_every": 4},
    )  # fmt: skip
    train(settings, tmp_path / "run", sample, Progress(1, io.StringIO()))
    found = Page((tmp_path / "run/report.html").read_text())
    assert "6 of 6 step" in found.text and "seed 4, temperature 1, weights averaged" in found.text
    rows = [r["loss"] for r in metrics.read(tmp_path / "run") if "loss" in r]
    np.testing.assert_allclose(found.data[0]["lines"][0]["values"], rows, rtol=1e-4)
    assert [line["steps"] for line in found.data[0]["lines"]][1] == [2, 4, 6]


def test_a_report_takes_at_most_its_share_of_a_run(tmp_path):
    """However often it is asked: the time in `update` beside the time passed, and a failure stops nothing."""
    folder, progress = workdir(tmp_path / "run", curve(2000)), Progress(1, io.StringIO())
    log, reporter = metrics.Log(folder, 10**6, 10**6, progress, None), Reporter(folder, progress)
    assert reporter.update(log)
    begun, spent, written = time.perf_counter(), 0.0, 0
    while time.perf_counter() - begun < 3:
        before = time.perf_counter()
        written += reporter.update(log)
        spent += time.perf_counter() - before
        time.sleep(0.005)
    assert spent < 1.5 * SHARE * 3 + reporter._took and written <= 1 + SHARE * 3 / 0.01
    assert reporter.update(log, last=True)
    (folder / "report.html").write_text("mine")
    assert Reporter(folder, progress).update(log, last=True)
    assert "warning: " in progress.stream.getvalue() and "is no report" in progress.stream.getvalue()
    log.__exit__(None)


def test_a_sample_that_cannot_be_read_is_left_out(tmp_path):
    other = workdir(tmp_path / "other", [{"step": i, "kl": 0.1, "valid_kl": 0.2, "sample_loops": 0.5} for i in (1, 2)])
    panels = {
        p["unit"] + ",".join(line["name"] for line in p["lines"]) for p in Page(page.page([runs.read(other)])).data
    }
    assert panels == {"training,held out", "samples"}  # numbers that a family or a sampler adds
    assert "no record yet" in page.page([runs.read(workdir(tmp_path / "new", []))])
    folder = workdir(tmp_path / "run", curve())
    (folder / "samples").mkdir()
    (folder / "samples/0000010-0.mid").write_bytes(b"nothing")
    random_score(1, 30).save_midi(folder / "samples/0000010-1.mid")
    found = runs.read(folder)
    assert [s.path for s in found.samples] == ["samples/0000010-1.mid"]
    assert "how it was made is not recorded" in page.page([found])
    with pytest.raises(UserError, match="holds no run"):
        runs.read(tmp_path)
