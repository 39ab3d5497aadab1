"""Reruns of benchmark rows: what is read, and what is marked."""

from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import against
    import bench

    return against, bench


def file(tmp_path, *rows):
    """A table of rows (speed of ours, that of the peer or "", figure and ratio recorded), amid other text."""
    for name in ("ours", "peer"):
        (tmp_path / f"{name}.py").write_text("import sys; print('first'); print('{\"speed\": %s}' % sys.argv[1])\n")
    lines = ["# Text", "", "| size | key | ours | peer | figure | ratio |", "|---|---|---|---|---|---|"]
    for ours, peer, figure, ratio in rows:
        theirs = f"`$PEER_PYTHON $PEER/peer.py {peer}`" if peer else ""
        lines.append(f"| small | speed | `python {tmp_path}/ours.py {ours}` | {theirs} | {figure} | {ratio} |")
    (tmp_path / "B.md").write_text("\n".join([*lines, "", "| key | other |", "|---|---|", "| a | b |", "after"]))
    return tmp_path / "B.md"


def test_what_fell_beside_its_peer_is_marked_and_nothing_else(tools, tmp_path, capsys):
    given = [(950, 100, "1,000", 10), (890, 100, "1,000", 10), (500, 10, "1,000", 10), (899, "", "1,000", "")]
    path = file(tmp_path, *given)
    assert tools[1].main(["--against", str(path), "--peer", str(tmp_path), "--pairs", "1"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["ok", "FELL", "ok", "FELL"]  # in the third the peer is as slow
    assert said[1].endswith("ours.py 890: 8.9 times the peer, was 10 (speed 890, was 1,000)")
    assert tools[1].main(["--against", str(path), "--peer", str(tmp_path), "--only", "ours.py 9", "--pairs", "1"]) == 0


def test_a_row_whose_peer_is_not_there_is_left_out_and_that_is_said(tools, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PEER", raising=False)
    path = file(tmp_path, (1, 1, 9, 9), (9, "", 9, ""))
    assert tools[1].main(["--against", str(path), "--pairs", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("left out") and "$PEER is not set" in said[0] and said[1].startswith("ok")
    assert len(list(tools[0].rows(path.read_text()))) == 2


def test_the_rows_of_the_benchmarks_can_be_read(tools):
    found = list(tools[0].rows((TOOLS.parent / "BENCHMARKS.md").read_text()))
    assert found and all(row.ours.startswith("python tools/") and row.figure > 0 for row in found)
    assert all((row.ratio > 0) == bool(row.peer) for row in found)
    assert TOOLS.parent == tools[1].ROOT
