"""What a run will need, before there is data or an accelerator: its training step is compiled and read, not run.

The figures are those of the program compiled for the devices of this machine. For a CPU it carries float32 between
matrix products and keeps no attention scores, so an accelerator may need less for activations, or more with the backend
"xla"; parameters, optimizer and averages take the same everywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax

from aurljax import mesh, params, state, step, train
from aurljax.config import Config, Parts, build
from aurljax.data.batch import Batch
from aurljax.errors import UserError
from aurljax.records import products
from aurljax.sizes import size


@dataclass(frozen=True)
class Plan:
    """A run's needs; bytes are those of one device."""

    family: str
    mesh: dict[str, int]
    device: str
    parameters: int  # in all
    parameters_a_device: int
    batch: int
    tokens: int  # slots of a step
    flops: int  # of a step, over all devices: matrix products, forward, backward and what is computed again
    weights: int
    optimizer: int
    average: int
    inputs: int  # of a batch, and what little else a step reads
    working: int  # activations, gradients and all else that lives within a step
    peak: int

    def lines(self) -> list[str]:
        """For people."""
        shape = " x ".join(f"{name} {size}" for name, size in self.mesh.items())
        held = {"parameters": self.weights, "optimizer": self.optimizer, "average": self.average, "batch": self.inputs,
                "activations and gradients": self.working}  # fmt: skip
        return [
            f"{self.family}, {self.parameters:,} parameters, {self.parameters_a_device:,} a device",
            f"mesh {shape}: {math.prod(self.mesh.values())} devices ({self.device})",
            f"a step: {self.batch:,} rows, {self.tokens:,} ids, {self.flops:.3g} operations in matrix products",
            "memory a device: " + ", ".join(f"{name} {size(n)}" for name, n in held.items() if n),
            f"in all {size(self.peak)}",
        ]


def make(config: Config) -> Plan:
    """The plan of a run on the devices of this machine; UserError: a config or mesh that cannot work."""
    parts = build(config)
    with mesh.use(mesh.make(config.mesh.data, config.mesh.model, config.mesh.replica)):
        train.check(parts)
        now, batch = mesh.concrete(state.abstract(parts)), rows(parts)
        traced = step.train_step(parts).trace(now, batch)
        used = traced.lower().compile().memory_analysis()
        if used is None:
            raise UserError(f"{jax.default_backend()}: this platform tells nothing of memory; plan on a CPU")
        held = used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes
        spec = parts.family.spec(parts.model)
        weights, optimizer, average = (_bytes(tree) for tree in ((now.params, now.frozen), now.opt_state, now.ema))
        return Plan(
            family=parts.family.name,
            mesh=dict(mesh.current().shape),
            device=jax.devices()[0].device_kind,
            parameters=params.count(spec),
            parameters_a_device=_count((now.params, now.frozen)),
            batch=config.data.batch,
            tokens=config.data.batch * config.data.length,
            flops=products.count(traced.jaxpr),
            weights=weights,
            optimizer=optimizer,
            average=average,
            inputs=max(0, held - weights - optimizer - average),
            working=used.temp_size_in_bytes,
            peak=held + used.temp_size_in_bytes,
        )


def rows(parts: Parts) -> Batch:
    """The shapes of a batch, laid out on the mesh in force; of buckets the longest."""
    data, on = parts.config.data, mesh.sharding(("batch", None))

    def ids(kind: str = "int32") -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((data.batch, data.length), kind, sharding=on)

    return Batch(ids(), ids(), ids("float32"), ids(), ids(), {name: ids() for name in parts.codec.feature_sizes})


def largest(config: Config, memory: float) -> Plan:
    """The plan with the largest data.batch whose peak is at most `memory` bytes a device, by two to six compilations.

    Memory grows with rows nearly on a line, so two small batches tell where to look. UserError: not even the smallest
    batch fits.
    """
    parts = build(config)
    with mesh.use(mesh.make(config.mesh.data, config.mesh.model, config.mesh.replica)):
        unit = mesh.ways("batch") * config.optim.accumulation

    @functools.cache
    def of(units: int) -> Plan:
        data = dataclasses.replace(config.data, batch=units * unit)
        return make(dataclasses.replace(config, data=data))

    if of(1).peak > memory:
        raise UserError(f"--memory {size(memory)}: {unit} rows, the smallest batch, need {size(of(1).peak)} a device; use "
                        "more devices or a larger mesh.model, shorten data.length, or set model.remat=true if the "
                        f"family {parts.family.name} has it")  # fmt: skip
    return of(most(lambda units: of(units).peak, memory))


def most(cost: Callable[[int], float], budget: float) -> int:
    """The n >= 1 with cost(n) <= budget, the largest if cost is about a line; cost(1) must be. At most six costs."""
    at, paid, more, too_many = 1, cost(1), 2, math.inf
    for _ in range(5):
        tried = cost(more)
        a_unit = max((tried - paid) / (more - at), 1)
        if tried <= budget:
            at, paid = more, tried
        else:
            too_many = more
        more = int(min(at + (budget - paid) // a_unit, too_many - 1))
        if more <= at:
            break
    return at


def run(config: Config, memory: float | None = None, as_json: bool = False) -> None:
    """Prints a plan, of each stage if there are several, and, for `memory` bytes a device, the largest batch that fits."""
    for name, chosen in config.stages or (("", config),):
        found = make(chosen)
        fits = None if memory is None else largest(chosen, memory)
        if as_json:
            stage = {"stage": name} if name else {}
            more = {} if fits is None else {"fits": dataclasses.asdict(fits)}
            print(json.dumps(stage | dataclasses.asdict(found) | more))
            continue
        if name:
            print(f"stage {name}, {chosen.run.steps:,} steps")
        print("\n".join(found.lines()))
        if fits is not None:
            print(
                f"{size(memory)} a device hold data.batch={fits.batch} ({size(fits.peak)}, {fits.tokens:,} ids a step)"
            )


def _shards(tree) -> list[tuple[int, int]]:
    """(numbers, bytes of one) that a device holds of each leaf."""
    found = []
    for x in jax.tree.leaves(tree):
        plain = jax.eval_shape(jax.random.key_data, x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        found.append((math.prod(x.sharding.shard_shape(x.shape)), plain.dtype.itemsize))
    return found


def _count(tree) -> int:
    return sum(n for n, _ in _shards(tree))


def _bytes(tree) -> int:
    return sum(n * width for n, width in _shards(tree))
