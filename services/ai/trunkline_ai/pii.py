"""What counts as personal data, and what is done about it for a tenant."""

from __future__ import annotations

from enum import StrEnum

from trunkline.common.v1 import analysis_settings_pb2 as settings_pb2


class PiiKind(StrEnum):
    """A kind of personal data; in capitals it is the placeholder's word. The first of two that overlap is kept."""

    CARD = "card"
    SSN = "ssn"
    EMAIL = "email"
    PHONE = "phone"
    BIRTH_DATE = "birth_date"
    ADDRESS = "address"
    NAME = "name"


ALL = frozenset(PiiKind)


def remote_kinds(settings: settings_pb2.AnalysisSettings) -> frozenset[PiiKind]:
    """Return what engines outside of the suite get placeholders for; none: they see the words as they are."""
    off = settings.redaction.remote == settings_pb2.REMOTE_REDACTION_OFF
    return frozenset() if off else _kinds(settings)


def hidden_kinds(settings: settings_pb2.AnalysisSettings, *, local: bool) -> frozenset[PiiKind]:
    """Return what a stored analysis does not show; `local` says that the suite's own engine made it."""
    told = settings.redaction
    if told.stored:
        return _kinds(settings)
    return remote_kinds(settings) if told.keep_placeholders and not local else frozenset()


def _kinds(settings: settings_pb2.AnalysisSettings) -> frozenset[PiiKind]:
    """Return the kinds that a tenant names, all if none. A kind that this version does not know makes it all."""
    named = [_KINDS.get(kind) for kind in settings.redaction.kinds]
    return frozenset(kind for kind in named if kind) if named and None not in named else ALL


_KINDS = {settings_pb2.PiiKind.Value(f"PII_KIND_{kind.name}"): kind for kind in PiiKind}
