"""Update masks and etags, the same for every update."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from trunkline_runtime.errors import Aborted, InvalidArgument

# Paths that an answer names: more would be more than a trailer holds.
_NAMED = 10


def fields_to_change(
    message: Message, mask: FieldMask, allowed: Collection[str], open_fields: Collection[str] = ()
) -> Sequence[str]:
    """Return the fields an update changes: those of the mask, all for `*`, those that are set without one.

    A mask can also name a field inside of one of `open_fields`, such as `retention.events_days`. Raises
    InvalidArgument("update_mask") with the path that cannot be changed.
    """
    if not mask.paths:
        return [field.name for field, _ in message.ListFields() if field.name in allowed]
    if list(mask.paths) == ["*"]:
        return sorted(allowed)
    inside = {
        f"{name}.{field.name}" for name in open_fields for field in getattr(message, name).DESCRIPTOR.fields
    }
    wrong = [path for path in mask.paths if path not in allowed and path not in inside]
    if wrong:
        choice = ", ".join([*sorted(allowed), *sorted(inside)])
        raise InvalidArgument.many(
            [
                ("update_mask", f"{path[:100]!r} cannot be changed; allowed: {choice}")
                for path in wrong[:_NAMED]
            ]
        )
    return list(dict.fromkeys(mask.paths))


def take(fields: Sequence[str], source: Message, target: Message) -> None:
    """Copy the fields, also where they are empty."""
    for name in fields:
        target.ClearField(name)
        field = source.DESCRIPTOR.fields_by_name[name]
        if field.is_repeated:
            getattr(target, name).MergeFrom(getattr(source, name))
        elif field.message_type is None:
            setattr(target, name, getattr(source, name))
        elif source.HasField(name):
            getattr(target, name).CopyFrom(getattr(source, name))


def merged(name: str, kept: bytes | None, wanted: Message, fields: Sequence[str]) -> bytes:
    """Return what is kept of a field that is a message: all of it anew, or only what `fields` name inside of it."""
    given: Message = getattr(wanted, name)
    if name not in fields:
        made = type(given).FromString(kept or b"")
        take([path.partition(".")[2] for path in fields if path.startswith(f"{name}.")], given, made)
        given = made
    return given.SerializeToString(deterministic=True)


def check_etag(given: str, there: str, name: str) -> None:
    """Raise Aborted when an etag was given and is not the one that is there."""
    if given and given != there:
        raise Aborted(
            f"{name} has changed; read it again", reason="ETAG_MISMATCH", metadata={"resource": name}
        )
