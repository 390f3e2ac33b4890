"""Records as documents for people: objects with named fields, bytes as 0x hex.

    document.render(genesis)                      # -> dict, ready for JSON
    document.parse(NetworkGenesis, json_object)   # -> record, or Malformed

What is signed and hashed is never a document but the record's canonical bytes (`codec`).
"""

import types
from enum import Enum
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from primitives.codec import Malformed, Record

T = TypeVar("T")


def render(value: Any) -> Any:
    """`value` with records as dicts, bytes as 0x hex, and lists and scalars as they are."""
    if isinstance(value, Record):
        return {name: render(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, list | tuple):
        return [render(item) for item in value]
    if isinstance(value, dict):
        return {key: render(item) for key, item in value.items()}
    return value


def parse(shape: type[T], document: Any) -> T:
    """The record of type `shape` that `document` describes.

    Errors: `Malformed`, naming the field.
    """
    try:
        return msgspec.convert(_lower(shape, document, "$"), shape)
    except msgspec.ValidationError as error:
        raise Malformed(f"not a {getattr(shape, '__name__', shape)}: {error}") from None


def _lower(shape: Any, value: Any, path: str) -> Any:
    """Turn objects into arrays and hex into bytes, as `shape` asks for; the rest is checked
    by `msgspec.convert` afterwards."""
    if get_origin(shape) is Annotated:
        return _lower(get_args(shape)[0], value, path)
    if get_origin(shape) in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (part for part in get_args(shape) if part is not type(None))
        return _lower(inner, value, path)
    if get_origin(shape) is list and isinstance(value, list):
        (inner,) = get_args(shape)
        return [_lower(inner, item, f"{path}[{i}]") for i, item in enumerate(value)]
    if shape is bytes:
        return _bytes(value, path)
    if isinstance(shape, type) and issubclass(shape, Record):
        return _array(shape, value, path)
    return value


def _array(shape: type[Record], value: Any, path: str) -> list[Any]:
    names = shape.__struct_fields__
    if not isinstance(value, dict) or set(value) != set(names):
        raise Malformed(f"{path} must be an object with exactly the fields {', '.join(names)}")
    hints = get_type_hints(shape, include_extras=True)
    return [_lower(hints[name], value[name], f"{path}.{name}") for name in names]


def _bytes(value: Any, path: str) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise Malformed(f"{path} must be 0x-prefixed hex")
    try:
        return bytes.fromhex(value[2:])
    except ValueError:
        raise Malformed(f"{path} must be 0x-prefixed hex") from None
