"""Values of typed dataclass fields: checked, converted without loss, and refused in one sentence."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from aurljax.errors import UserError


class ConfigError(UserError):
    """A field that does not exist, or a value that cannot work."""


def require(condition: bool, sentence: str) -> None:
    """Raises ConfigError(sentence) unless the condition holds."""
    if not condition:
        raise ConfigError(sentence)


def at_least(section: Any, prefix: str, **bounds: float) -> None:
    """Requires section.NAME >= bound for each NAME=bound."""
    for name, bound in bounds.items():
        value = getattr(section, name)
        require(value >= bound, f"{prefix}.{name}={value} must be at least {bound}")


def one_of(name: str, value: Any, table: Sequence[str]) -> None:
    """Requires a value of the table, naming the nearest."""
    if value not in table:
        near = difflib.get_close_matches(str(value), table, 1, 0)[0]
        raise ConfigError(f"{name}={value} is none of {', '.join(table)}; did you mean {near}?")


def unknown(name: str, known: Sequence[str]) -> ConfigError:
    """The refusal of a dotted name, with the nearest: in its own section, of the same last word, or of all."""
    section, _, leaf = name.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == section]
    close = difflib.get_close_matches(name, siblings, 1, 0.75)
    close += difflib.get_close_matches(name, [k for k in known if k.rpartition(".")[2] == leaf], 1, 0)
    close += difflib.get_close_matches(name, known, 1, 0)
    return ConfigError(f"unknown config field {name}; did you mean {close[0]}?")


def literal(text: str) -> Any:
    """The value that a text on the command line spells: true, none, 3, 1e-3, (-5, 6), else the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def coerce(name: str, value: Any, kind: Any, base: Any = None) -> Any:
    """`value` as the type `kind` where no meaning is lost: int to float, list to tuple, mapping to dataclass.

    Of a union the first type that takes the value is taken; fields that a mapping leaves out are those of `base`, else
    the type's defaults. ConfigError for any other value.
    """
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _of_union(name, value, kind, options)
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        kinds = typing.get_type_hints(kind)
        if wrong := next((k for k in value if k not in kinds), None):
            raise unknown(f"{name}.{wrong}", [f"{name}.{k}" for k in kinds])
        base = kind() if base is None else base
        changes = {k: coerce(f"{name}.{k}", v, kinds[k], getattr(base, k)) for k, v in value.items()}
        return dataclasses.replace(base, **changes)
    if dataclasses.is_dataclass(kind):
        raise ConfigError(f"{name} is a section, not a value; set one of its fields, such as {name}.NAME")
    if origin is tuple and isinstance(value, list | tuple):
        kinds = options[:1] * len(value) if options[1:] == (...,) else options
        if len(kinds) == len(value):
            return tuple(coerce(name, v, k) for v, k in zip(value, kinds, strict=True))
    elif kind is float and type(value) is int:
        return float(value)
    elif origin is None and type(value) is kind:
        return value
    raise ConfigError(f"{name} must be {kind.__name__ if origin is None else kind}, not {value!r}")


def _of_union(name: str, value: Any, kind: Any, options: tuple) -> Any:
    if value is None and type(None) in options:
        return None
    for k in options:
        if k is not type(None):
            try:
                return coerce(name, value, k)
            except ConfigError:
                continue
    raise ConfigError(f"{name} must be {kind}, not {value!r}")


def frozen(value: Any) -> Any:
    """Lists as tuples, at any depth."""
    return tuple(frozen(v) for v in value) if isinstance(value, list | tuple) else value


def plain(value: Any) -> Any:
    """Tuples as lists and dataclasses as dicts, at any depth."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [plain(v) for v in value] if isinstance(value, tuple) else value


def nearest_multiple(number: int, of: int) -> int:
    """The multiple of `of` nearest to `number`, at least `of`."""
    return max(of, round(number / of) * of)


def merge(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` with the leaves that `changes` has in place of its own."""

    def one(old: Any, new: Any) -> Any:
        return merge(old, new) if isinstance(old, Mapping) and isinstance(new, Mapping) else new

    return {**tree, **{name: one(tree.get(name), value) for name, value in changes.items()}}


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of `new` that are not those of `old`: `merge(old, changed(old, new)) == new` where both have the same
    names."""
    found = {}
    for name, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(name), Mapping):
            if inner := changed(old[name], value):
                found[name] = inner
        elif name not in old or old[name] != value:
            found[name] = value
    return found


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their dotted names, in the order they stand."""
    found = {}
    for name, value in tree.items():
        whole = isinstance(value, Mapping) and value
        found |= leaves(value, f"{prefix}{name}.") if whole else {f"{prefix}{name}": value}
    return found
