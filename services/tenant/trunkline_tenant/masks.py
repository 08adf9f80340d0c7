"""Update masks and etags, the same for every update."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from trunkline_runtime.errors import Aborted, InvalidArgument

# Paths that an answer names: more would be more than a trailer holds.
_NAMED = 10


def fields_to_change(message: Message, mask: FieldMask, allowed: Collection[str]) -> Sequence[str]:
    """Return the fields an update changes: those of the mask, all for `*`, those that are set without one.

    Raises InvalidArgument("update_mask") with the path that cannot be changed.
    """
    if not mask.paths:
        return [field.name for field, _ in message.ListFields() if field.name in allowed]
    if list(mask.paths) == ["*"]:
        return sorted(allowed)
    wrong = [path for path in mask.paths if path not in allowed]
    if wrong:
        choice = ", ".join(sorted(allowed))
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


def check_etag(given: str, there: str, name: str) -> None:
    """Raise Aborted when an etag was given and is not the one that is there."""
    if given and given != there:
        raise Aborted(
            f"{name} has changed; read it again", reason="ETAG_MISMATCH", metadata={"resource": name}
        )
