"""How many ids a piece may have, and the few sizes that programs are compiled for."""

from __future__ import annotations

from aurljax.errors import UserError

BLOCK = 64
BAR, SECOND = 512, 256  # ids for each bar or second asked of a model that writes any length: several times dense music


def bucket(n: int) -> int:
    """The least of 1, 64, 128, 192, 256, 384, 512, 768, ... (two an octave) that is not below n."""
    if n <= 1:
        return 1
    blocks = -(-n // BLOCK)
    step = 1 << max(0, (blocks - 1).bit_length() - 2)
    return -(-blocks // step) * step * BLOCK


def room(
    context: int,
    window: int,
    prompts: list[int],
    shortest: int,
    bars: int | None = None,
    seconds: float | None = None,
    max_ids: int | None = None,
) -> list[int]:
    """Ids that may be written behind each of the prompts, of so many ids; it depends on no other prompt.

    A model that sees all has room for its context, prompt included. One with a window has room for max_ids; else for 512
    a bar or 256 a second asked for, whichever is less; else for its context. UserError: it is not enough, or more is asked
    for than there is.
    """
    if max_ids is not None and max_ids < shortest:
        raise UserError(f"max_ids: {max_ids} is too few to end a piece; give at least {shortest}")
    if window:
        asked = [n for n in (bars and bars * BAR, seconds and int(seconds * SECOND)) if n]
        return [max_ids or max(shortest, min(asked, default=context))] * len(prompts)
    least = context - max(prompts)
    if least < shortest:
        raise UserError(f"prompt: {max(prompts)} ids leave no room in a context of {context}; "
                        "give fewer bars of it, or a model trained with a longer data.length")  # fmt: skip
    for name, value in (("max_ids", max_ids), ("bars", bars)):
        if value is not None and value > least:
            each = "" if name == "max_ids" else ", and a bar takes at least one"
            behind = f" behind {max(prompts)} of the prompt" if max(prompts) > 1 else ""
            raise UserError(f"{name}: {value} are too many: the context of {context} ids holds {least}{behind}{each}; "
                            "ask for fewer, or take a model trained with model.window: it writes any length")  # fmt: skip
    return [min(context - n, max_ids or context) for n in prompts]
