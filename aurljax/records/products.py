"""Operations of a traced program, counted where it multiplies matrices.

XLA's own count takes the body of a loop once, so that a model of scanned layers looks like one of a single layer.
"""

from __future__ import annotations

import math
from typing import Any

from jax.extend.core import jaxprs_in_params


def count(jaxpr: Any) -> int:
    """Floating-point operations (a multiplication and an addition each count) of all matrix products of a program.

    Of a loop whose length is known (`scan`) each round counts; of one that is not (`while`) one; of branches the most.
    """
    return sum(_of(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _of(equation: Any) -> int:
    name, options = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = options["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)
    inside = [count(j) for j in jaxprs_in_params(options)]
    if name == "cond":
        return max(inside, default=0)
    return sum(inside) * (options["length"] if name == "scan" else 1)
