"""From the JSON that `init` is given to a filter's own dataclass. Errors name the key: `words[1]: expected …`."""

import dataclasses
import json
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .verdict import show

_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "a table"}


class ConfigError(Exception):
    """The configuration makes no sense. The text names the key."""


def parse(text: str, into: Any) -> Any:
    """The configuration as a value of this type: a dataclass, or `dict` for the table as it is."""
    return read(json.loads(text or "{}"), into, "")


def _wrong(path: str, expected: str, value: object) -> ConfigError:
    return ConfigError(f"{path or 'the configuration'}: expected {expected}, got {show(value)}")


def read(value: Any, into: Any, path: str) -> Any:
    """One value as this type."""
    origin, arguments = get_origin(into) or into, get_args(into)
    if into is Any:
        return value
    if origin in (Union, types.UnionType):
        return _read_union(value, arguments, path)
    if origin is Literal:
        if value not in arguments:
            raise _wrong(path, "one of " + ", ".join(map(repr, arguments)), value)
        return value
    if dataclasses.is_dataclass(origin):
        return _read_table(value, origin, path)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin not in _NAMES:
        raise TypeError(f"{path}: a configuration cannot hold {into}")
    # In Python a bool is an int.
    if not isinstance(value, origin) or (isinstance(value, bool) and origin is not bool):
        raise _wrong(path, _NAMES[origin], value)
    if origin is list and arguments:
        return [read(item, arguments[0], f"{path}[{index}]") for index, item in enumerate(value)]
    if origin is dict and arguments:
        return {key: read(item, arguments[1], f"{path}.{key}" if path else key) for key, item in value.items()}
    return value


def _read_union(value: Any, members: tuple[Any, ...], path: str) -> Any:
    if value is None and type(None) in members:
        return None
    error: ConfigError | None = None
    for member in members:
        if member is not type(None):
            try:
                return read(value, member, path)
            except ConfigError as wrong:
                error = error or wrong
    raise error or _wrong(path, "a value", value)


def _read_table(value: Any, into: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(path, "a table", value)
    fields = {field.name: field for field in dataclasses.fields(into) if field.init}
    hints = get_type_hints(into)
    under = f"{path}." if path else ""
    for key in value:
        if key not in fields:
            expected = "expected " + ", ".join(f"`{name}`" for name in fields) if fields else "there are none"
            raise ConfigError(f"{under}{key}: unknown key, {expected}")
    found = {key: read(item, hints[key], under + key) for key, item in value.items()}
    for name, field in fields.items():
        absent = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if name not in found and absent:
            raise ConfigError(f"{under}{name}: missing")
    try:
        return into(**found)
    except ValueError as error:
        # What `__post_init__` found wrong.
        raise ConfigError(f"{path}: {error}" if path else str(error)) from error
