"""Runs two commands in turn and compares one figure of their last lines, which are JSON.

    python tools/versus.py --key tokens_per_s -n 5 'python tools/bench.py decode' 'python peer.py'

Machines are shared and drift: the ratio of each pair is what holds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys


def measure(command: str, key: str) -> float:
    """The figure that a command prints."""
    done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])[key])


def main() -> None:
    """Prints medians and the median ratio, with the least and most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours")
    parser.add_argument("theirs")
    parser.add_argument("--key", default="tokens_per_s")
    parser.add_argument("-n", type=int, default=5, help="pairs (5)")
    args = parser.parse_args()
    pairs = [(measure(args.ours, args.key), measure(args.theirs, args.key)) for _ in range(args.n)]
    ratios = [a / b for a, b in pairs]
    a, b = (statistics.median(x) for x in zip(*pairs, strict=True))
    print(f"{args.key}: {a:,.0f} against {b:,.0f}; ratio {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f}..{max(ratios):.2f}) of {args.n} pairs")  # fmt: skip


if __name__ == "__main__":
    main()
