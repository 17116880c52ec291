"""YAML to dataclasses, strictly: an unknown or missing key or a wrong type is one line that names file and key."""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

import yaml

from .errors import EditError


def read_yaml(path: str | Path) -> dict:
    """The mapping in a YAML file; `.yaml` may be left off, as in EasyEdit."""
    path = Path(path)
    try:
        if path.suffix not in (".yaml", ".yml"):
            path = path.with_name(path.name + ".yaml")
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # no UTF-8, or no name of a file, is a ValueError
        raise EditError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise EditError(f"{path} holds no mapping")
    return data


def check_keys(data: Mapping, known: Iterable[str], where: str) -> None:
    """Raise `EditError` for a key of `data` that is not `known`."""
    known = list(known)
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise EditError(f"{where}: unknown key {key!r}, {hint}")


def build(cls: type, data: Mapping, where: str):
    """An instance of dataclass `cls` from `data`.

    Args:
        where: what to call it in errors, e.g. "llama2-7b.yaml: rep.training".
    """
    if not isinstance(data, Mapping):
        raise EditError(f"{where} must be a mapping, not {data!r}")
    known = {f.name: f for f in fields(cls) if f.init}
    check_keys(data, known, where)
    missing = [name for name, f in known.items() if name not in data and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise EditError(f"{where}: missing {', '.join(missing)}")
    hints = typing.get_type_hints(cls)
    values = {key: _convert(value, hints[key], f"{where}.{key}" if ": " in where else f"{where}: {key}") for key, value in data.items()}
    try:
        return cls(**values)
    except EditError as error:
        raise EditError(f"{where}: {error}") from None


def _convert(value, kind, where: str):
    if is_dataclass(kind):
        return build(kind, {} if value is None else value, where)
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        for option in options:
            if option is not type(None):
                try:
                    return _convert(value, option, where)
                except EditError:
                    continue
        raise EditError(f"{where} must be {' or '.join(_name(o) for o in options)}, not {value!r}")
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise EditError(f"{where} must be a list, not {value!r}")
        return [_convert(item, typing.get_args(kind)[0], where) for item in value]
    if typing.get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise EditError(f"{where} must be a mapping, not {value!r}")
        return {str(key): _convert(item, typing.get_args(kind)[1], f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        # YAML 1.1 reads 1e-3 as a string.
        with suppress(ValueError):
            value = float(value)
    if kind is float and value != value:
        raise EditError(f"{where} must be a number, not {value!r}")
    if kind is typing.Any or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise EditError(f"{where} must be {_name(kind)}, not {value!r}")


def _name(kind) -> str:
    return "null" if kind is type(None) else getattr(kind, "__name__", str(kind))
