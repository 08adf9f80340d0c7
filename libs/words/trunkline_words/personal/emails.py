"""Email addresses, written and spoken: `jane dot doe at gmail dot com`."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline_words.personal.speech import Speech, word_lists

_WORDS = word_lists("emails")
_TOPS = _WORDS["tops"]
_PROVIDERS = frozenset(
    {"gmail", "yahoo", "hotmail", "outlook", "icloud", "aol", "comcast", "protonmail", "msn", "verizon"}
)
_DOTS = frozenset({".", "dot", "period", "point"})
_JOINS = frozenset({
    "-", "_", "+", "dash", "hyphen", "underscore", "plus", "minus",
}) | _DOTS  # fmt: skip
_ATS = frozenset({"@", "at"})
# What stands before an address in a sentence, and is no part of it.
_LEADS = _WORDS["leads"]  # fmt: skip
_MOST_LOCAL = 16
_MOST_DOMAIN = 9
_MOST_PLAIN = 6


def find_emails(speech: Speech) -> Iterator[tuple[int, int, str]]:
    """Give the first word of each, the index behind its last word, and its written form in lower case."""
    at = 0
    while at < len(speech.words):
        if speech.words[at].text not in _ATS:
            at += 1
            continue
        end = _domain(speech, at)
        if end < 0:
            at += 1
            continue
        first = _local(speech, at, written=speech.words[at].text == "@")
        if first < at:
            yield first, end, _written(speech, first, at, end)
        at = max(end, at + 1)


def _domain(speech: Speech, at: int) -> int:
    """Return the index behind the domain that follows an `at`; -1 where none does."""
    end = -1
    most = min(speech.end_of_turn(at), at + 2 + _MOST_DOMAIN)
    written = speech.words[at].text == "@"
    index = at + 1
    while index < most:
        text = speech.words[index].text
        if index > at + 1 and text in _DOTS and index + 1 < most:
            behind = speech.words[index + 1].text
            glued = text != "." or (speech.touches(index - 1) and speech.touches(index))
            if not glued:
                break
            if behind in _TOPS or (written and behind.isalpha()):
                end = index + 2
                index += 2
                if index < most and speech.words[index].text in _DOTS and (index + 1 < most):
                    continue
                break
        elif (
            text in ("?", "!", ";", ":")
            or text in _ATS
            or (written and index > at + 1 and not speech.touches(index - 1) and text not in _DOTS)
        ):
            break
        index += 1
    if end < 0 and speech.text(at + 1) in _PROVIDERS and speech.same_turn(at, at + 1):
        return at + 2
    return end


def _local(speech: Speech, at: int, *, written: bool) -> int:
    """Return the first word of what stands before an `at`."""
    first = speech.firsts[speech.words[at].turn]
    index, plain, joined = at - 1, 0, False
    if written and index >= first and not speech.touches(index):
        written = False  # `jane @ gmail . com`
    taken = at
    while index >= max(first, at - _MOST_LOCAL):
        word = speech.words[index]
        touching = speech.touches(index)
        if written and not touching:
            break
        if word.text == "," and index == at - 1:
            index -= 1
            continue
        if word.text in _JOINS:
            spoken = word.text.isalpha()
            if not spoken and not (touching and index > first and speech.touches(index - 1)):
                break
            joined = True
        elif word.marks:
            break
        elif not touching and not joined:
            if word.text in _LEADS:
                break
            single = len(word.text) == 1 or word.text.isdigit()
            plain += 0 if single else 1
            if plain > _MOST_PLAIN:
                break
            taken = index
        elif (
            joined and word.text in _LEADS and word.text not in ("me", "us", "it", "no", "and", "on", "here")
        ):
            break
        else:
            joined = False
            taken = index
        if (
            plain >= 1
            and not joined
            and not touching
            and index - 1 >= first
            and speech.words[index - 1].text in _LEADS
        ):
            break
        index -= 1
    while taken < at and speech.words[taken].marks:
        taken += 1
    return taken


def _written(speech: Speech, first: int, at: int, end: int) -> str:
    told = []
    for index in range(first, end):
        text = speech.words[index].text
        if index == at:
            told.append("@")
        elif text in _DOTS:
            told.append(".")
        elif text != ",":
            told.append(
                {"underscore": "_", "dash": "-", "hyphen": "-", "minus": "-", "plus": "+"}.get(text, text)
            )
    return "".join(told)
