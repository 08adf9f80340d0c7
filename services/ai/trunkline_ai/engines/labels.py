"""The labels an analysis may carry, spelt as they stand in files and in the store."""

from enum import StrEnum


class Sentiment(StrEnum):
    """How the customer felt over the whole conversation."""

    NEGATIVE = "negative"
    NEUTRAL = "neutral"
    POSITIVE = "positive"


class Intent(StrEnum):
    """What the customer wanted: exactly one a conversation."""

    EMERGENCY_SERVICE = "emergency_service"
    QUOTE_REQUEST = "quote_request"
    APPOINTMENT = "appointment"
    SUPPORT = "support"
    BILLING = "billing"
    COMPLAINT = "complaint"
    CANCEL = "cancel"
    INFORMATION = "information"
    EMPLOYMENT = "employment"
    SALES_PITCH = "sales_pitch"
    ROBOCALL = "robocall"
    WRONG_NUMBER = "wrong_number"
    VOICEMAIL = "voicemail"
    NO_CONVERSATION = "no_conversation"
    OTHER = "other"


class LeadLevel(StrEnum):
    """How much business a conversation promises."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Unreliable(StrEnum):
    """Why an analysis cannot be relied on. Reasons of a transcript that are not here are passed on as they are."""

    LANGUAGE_NOT_ANALYSED = "language_not_analysed"
    NOT_UNDERSTOOD = "not_understood"
    LOW_CONFIDENCE = "low_confidence"


class EntityType(StrEnum):
    """What a named thing is."""

    PERSON = "person"
    PHONE_NUMBER = "phone_number"
    TIME = "time"
    AMOUNT = "amount"
    ADDRESS = "address"
    EMAIL = "email"


CONTENT_BLOCKED = "CONTENT_BLOCKED"
"""Reason of an EngineError: the engine refuses this content for good."""
