"""Microseconds that grammar and constraints take of a step of the sampling loop, without a model; one line of JSON.

    python tools/rules.py --batch 64 --constraints key,range,polyphony

Processor time, less what drawing an id from noise takes alone: medians of 15 rounds in which the loops take turns. Beside
it the whole step is `us_per_step` of `tools/bench.py decode`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import bench
import jax
import jax.numpy as jnp
import numpy as np

from aurljax.decode import constraints

ROUNDS = 15


def programs(batch: int, asked: list, steps: int) -> dict:
    """{what a step does: a compiled loop of so many}: draw an id, the same under the grammar, and under constraints too."""
    codec = bench.endless()
    grammar, rules = codec.grammar, constraints.rules(codec, constraints.kinds(asked))
    noise = jnp.asarray(np.random.default_rng(0).gumbel(size=(8, batch, len(codec.vocabulary))), jnp.float32)
    first = grammar.init(batch, xp=jnp), constraints.registers(codec, asked, batch), jnp.int32(0)

    def loop(allowed, advance):
        def body(i, carry):
            s, r, total = carry
            legal, logits = allowed(s, r, noise[i % 8])
            ids = jnp.argmax(jnp.where(legal, logits, -jnp.inf), -1).astype(jnp.int32)
            return *advance(s, r, ids), total + jnp.sum(ids)

        return jax.jit(lambda: jax.lax.fori_loop(0, steps, body, first)[2])

    def both(s, r, logits):
        legal = grammar.allowed(s, jnp) & rules.allowed(s, r, jnp)
        stuck = ~jnp.any(legal, -1, keepdims=True)
        return legal | (stuck & (jnp.arange(legal.shape[1]) == 0)), rules.penalised(s, r, logits, jnp)

    return {
        "draw": loop(lambda s, r, x: (True, x), lambda s, r, ids: (s, r)),
        "grammar": loop(
            lambda s, r, x: (grammar.allowed(s, jnp), x), lambda s, r, ids: (grammar.advance(s, ids, jnp), r)
        ),
        "both": loop(both, lambda s, r, ids: (grammar.advance(s, ids, jnp), rules.advance(s, r, ids, jnp))),
    }


def main() -> None:
    """Prints the microseconds of a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--constraints", default="key,range,polyphony", help=f"of {', '.join(bench.CONSTRAINTS)}")
    args = parser.parse_args()
    names, steps = args.constraints.split(","), max(6400 // args.batch, 50)
    times: dict[str, list[float]] = {}
    loops = programs(args.batch, [bench.constraints()[name] for name in names], steps)
    for i in range(ROUNDS + 1):
        for name, run in loops.items():
            begun = time.process_time()
            jax.block_until_ready(run())
            times.setdefault(name, []).extend([1e6 * (time.process_time() - begun) / steps] * (i > 0))  # not the first
    us = {name: statistics.median(t) for name, t in times.items()}
    found = {"draw_us": us["draw"], "grammar_us": us["grammar"] - us["draw"], "both_us": us["both"] - us["draw"]}
    print(json.dumps({"batch": args.batch, "constraints": names} | {k: round(v, 2) for k, v in found.items()}))


if __name__ == "__main__":
    main()
