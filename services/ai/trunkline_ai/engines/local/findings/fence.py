"""Words that are meant for a machine and not for the other side of a call: what rules count, a stranger could say.

The rules find what they know by its words, so a sentence that tells a machine what to find would be found. What is
plainly such a sentence is left out; of what people also say to people, the clause; of links and markup, only the marks.
This is a list of known ways and no proof: a caller who simply lies about what he wants is analysed as what he says he
wants.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from trunkline_words.written import straightened

from trunkline_ai.engines.base import Transcript, Turn
from trunkline_ai.engines.local.text import sentence_spans

_UNSEEN = re.compile(r"[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+")
_TURNED = re.compile(r"[\u202d\u202e][^\u202c]*+\u202c?")
_FORGET = (
    r"(?:ignore|disregard|forget|override|bypass)\s(?:\w+\s){0,3}?(?:previous|prior|above|earlier|preceding"
    r"|your|all|other)\s(?:\w+\s){0,2}?"
)
_FIELDS = r"intent|sentiment|spam|urgency"
_GIVEN = (
    r"(?:hot|high\w*|low|top|strong|spam|leads?|score|positive|negative|neutral|qualified|verified"
    r"|vip|legitimate|safe|approved|quote_\w+|booked|resolved|important|max\w*|hundred)"
)
TO_A_MACHINE = re.compile(
    r"(?:\b(?=[a-z])(?:" + _FORGET + r"(?:instructions?|rules|prompts?|guidelines|training)"
    r"|(?:system|developer|admin)\s?(?:prompt|override|instruction)s?\b|(?:system|developer)\smessage\]|(?:system|developer|assistant)(?:\s(?:message|note))?\s?:"
    r"|function_call\b|\w+\(\w+=|as\san?\s(?:ai|language\smodel)\b"
    r"|(?:mark|label|classify|tag|score|rate|flag|record|log|treat|set|categori[sz]e)\s(?:\w+\s){0,3}?"
    r"(?:calls?|caller|conversation|transcript|message)\s(?:(?:as|to|=)\s(?:\w+\s){0,4}?"
    + _GIVEN
    + r"\b|with\s(?:\w+\s){0,3}?(?:score|urgency|lead)\b)"
    r"|(?:mark|label|classify|score|rate|flag|set|categori[sz]e)\s(?:\w+\s){0,2}?(?:lead|"
    + _FIELDS
    + r"|summary)\s(?:\w+\s){0,2}?(?:as|to|=)\s"
    r"|(?:summary|lead|intent|spam|sentiment|urgency|score|action\sitems?)\sfield\b"
    r"|the\ssummary\s(?:must|should)\s(?:read|say|state|contain|include|be|end|start)\b"
    r"|when\syou\ssummari[sz]e\b|(?:note|attention|instructions?)\s(?:to|for)\s(?:\w+\s){0,2}?(?:ai|bots?|automated\ssystems?|language\smodels?|transcribers?|analy[sz]ers?|assistants?|llms?)\b"
    r"|(?:you\sare|act\sas|pretend)\s(?:now\s|to\sbe\s)?(?:\w+\s){0,2}?(?:pirate|(?-i:DAN)|language\smodel)\b"
    r"|from\snow\son,?\s(?:write|answer|respond|reply|output|speak)\b"
    r"|(?:ignora|olvida)\s(?:\w+\s){0,3}?(?:instrucciones|reglas)|ignoriere\s(?:\w+\s){0,3}?(?:anweisungen|regeln)"
    r"|ignore[zr]?\s(?:\w+\s){0,3}?(?:instructions|consignes)|(?:clasifica|marca)\s(?:esta|la)\sllamada|zusammenfassung\b|resumen\b)"
    # What only a machine reads: tags of a prompt, marks of a chat's template, and an analysis written as JSON or XML.
    r"|</?(?:system|instructions?|transcript|assistant|prompt|analysis|tool_?\w*|result|"
    + _FIELDS
    + r"|lead)>|<\|[a-z_]{2,20}\|>"
    r"|\"(?:" + _FIELDS + r"|lead\w*|tool|function|summary|action_?items?)\"\s?:)",
    re.IGNORECASE,
)
"""Blanks its sentence."""
NAMES_A_MACHINE = re.compile(
    r"\b(?:(?:the|an|hey|dear|your)\sai|ai\s(?:system|model|assistant|agent)|llm|transcription\ssoftware|call\sanalysis\ssystem|"
    r"system\sthat\slistens|machine\sthat\sreads|(?:thoughtful|automated|ai)\s(?:assistant|note\staker))\b",
    re.IGNORECASE,
)
_TELLS = re.compile(
    r"\b(?:write|must|should|set|mark|label|add|reads|answer|respond|output)\b", re.IGNORECASE
)
ALSO_SAID_TO_PEOPLE = re.compile(
    r"\b(?:" + _FORGET + r"(?:text|orders|directions)|new\sinstructions?\b"
    r"|(?:mark|label|classify|flag|rate|tag)\s(?:\w+\s){0,3}?(?:call|caller|conversation|transcript|message)\s(?:as|to|with)\b"
    r"|(?:summary|intent|spam|sentiment|urgency|score)\s(?:score|label|level|value|check|filter)\b|lead\s(?:score|label)\b"
    r"|in(?:to)?\s(?:the|your)\ssummary\b|summar(?:y|ies)\swith\b|action\sitems?\b|(?:this\sis|is)\snot\s(?:a\s)?spam\b)",
    re.IGNORECASE,
)
"""Blanks its clause."""
_MARKS = ("(", "<", '"', ":", "]")
_WORD = re.compile(r"\w++")
_WORDS = frozenset({
    "ignore", "disregard", "forget", "override", "bypass", "ignora", "olvida", "ignoriere", "ignorez", "ignorer",
    "mark", "label", "classify", "tag", "score", "rate", "flag", "record", "log", "treat", "set", "categorise",
    "categorize", "write", "answer", "respond", "reply", "output", "speak", "clasifica", "marca", "summarise",
    "summarize", "note", "attention", "prompt", "prompts", "overrides", "instruction", "instructions", "function_call",
    "ai", "language", "llm", "transcription", "analysis", "listens", "machine", "thoughtful", "automated", "pirate",
    "dan", "field", "summary", "summaries", "zusammenfassung", "resumen", "intent", "spam", "sentiment", "urgency",
    "item", "items",
    *(f"{whose}{what}{end}" for whose in ("system", "developer", "admin")
      for what in ("prompt", "override", "instruction") for end in ("", "s")),
})  # fmt: skip
"""One of these words, or of the marks, is in whatever the patterns above find."""
_CLAUSE_END = re.compile(r"[,;:]\s+|\s[-–—]+\s")
_MARKUP = re.compile(
    r"</?[A-Za-z_][^<>\n]{0,200}>"
    r"|\[/?(?:INST|SYS|END|SYSTEM|ASSISTANT|USER|DEVELOPER)(?:\s[A-Z ]{1,20})?\]|```\w*"
    r"|^[ \t]*+(?:-[ \t]?){3,}|^[ \t]*+#{1,6}(?=\s)"
    r"|\bhttps?://[^\s<>\"]*+|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{60,}+",
    re.MULTILINE,
)
"""Blanks itself."""
_MARKS_OF_MARKUP = ("<", "[", "```", "-", "#", "http")
_LONG = 60
_JSON = re.compile(r"\{\s*+\"")
_OF_JSON = re.compile(r"\"\w{1,40}\"\s?:|[{}\[\]\"]")


def without_words_to_machines(transcript: Transcript) -> Transcript:
    """The transcript with blanks in place of such words, so that every offset stays."""
    turns = tuple(_cleaned(turn) for turn in transcript.turns)
    return Transcript(turns) if turns != transcript.turns else transcript


def _cleaned(turn: Turn) -> Turn:
    text = turn.text
    blanks = sorted(_blanks(text))
    if not blanks:
        return turn
    pieces, at = [], 0
    for start, end in blanks:
        pieces += [text[at:start], " " * (end - max(at, start))]
        at = max(at, end)
    return replace(turn, text="".join([*pieces, text[at:]]))


def _blanks(text: str) -> Iterator[tuple[int, int]]:
    yield from (found.span() for found in _TURNED.finditer(text))
    if any(mark in text for mark in _MARKS_OF_MARKUP) or max(map(len, text.split()), default=0) >= _LONG:
        yield from (found.span() for found in _MARKUP.finditer(text))
    if _JSON.search(text):
        yield from (found.span() for found in _OF_JSON.finditer(text))
    if not may_be_to_a_machine(text):
        return
    for start, end in sentence_spans(text):
        read = _read(text[start:end])
        if TO_A_MACHINE.search(read) or (NAMES_A_MACHINE.search(read) and _TELLS.search(read)):
            yield start, end
        elif ALSO_SAID_TO_PEOPLE.search(read):
            ends = [found.end() for found in _CLAUSE_END.finditer(text, start, end)]
            for first, last in zip([start, *ends], [*ends, end], strict=True):
                if ALSO_SAID_TO_PEOPLE.search(_read(text[first:last])):
                    yield first, last


def may_be_to_a_machine(text: str) -> bool:
    """Whether a text has a word or a mark that each sentence has that is left out or cut: nearly none has."""
    plain = straightened(text)
    if not plain.isascii() or any(mark in plain for mark in _MARKS):
        return True
    return not _WORDS.isdisjoint(_WORD.findall(plain.lower()))


def _read(text: str) -> str:
    return " ".join(_UNSEEN.sub("", text).split())
