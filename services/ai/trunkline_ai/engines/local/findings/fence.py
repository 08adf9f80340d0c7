"""Words that are meant for a machine and not for the other side of a call: what rules count, a stranger could say.

The rules find what they know by its words, so a sentence that tells a machine what to find would be found. What is
plainly such a sentence is left out. This is a list of known ways and no proof: a caller who simply lies about what he
wants is analysed as what he says he wants.
"""

import re
from dataclasses import replace

from trunkline_ai.engines.base import Transcript, Turn
from trunkline_ai.engines.local.text import sentence_spans

_UNSEEN = re.compile(r"[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]+")
_TURNED = re.compile(r"[\u202d\u202e][^\u202c]*+\u202c?")
_TO_A_MACHINE = re.compile(
    r"\b(?=[a-z])(?:(?:ignore|disregard|forget|override|bypass)\s(?:\w+\s){0,3}?(?:previous|prior|above|earlier|preceding|your|all|other)"
    r"\s(?:\w+\s){0,2}?(?:instructions?|rules|prompts?|directions|guidelines|training|text|orders)"
    r"|(?:system|developer|assistant|admin)\s?(?:prompt|message|note|override|instruction)s?\b|system\s?:"
    r"|new\s(?:instructions?|rules)\b|function_call\b|\w+\(\w+=|as\san?\s(?:ai|language\smodel)\b"
    r"|(?:mark|label|classify|tag|score|rate|flag|record|log|list|treat|set|categori[sz]e|register|file)\s(?:\w+\s){0,3}?"
    r"(?:call|calls|caller|conversation|transcript|message|lead|intent|sentiment|spam|urgency|summary)\s(?:\w+\s){0,3}?(?:as|to|with|=)\b"
    r"|(?:summary|lead|intent|spam|sentiment|urgency|score|action\sitems?)\s(?:field|score|label|level|value)\b"
    r"|in(?:to)?\s(?:the|your)\ssummary\b|the\ssummary\s(?:must|should|has|needs|is\sto|will)\b|action\sitems?\b"
    r"|(?:this\sis|is)\snot\s(?:a\s)?spam\b|spam\s(?:check|filter|score)\b|summar(?:y|ies)\swith\b"
    r"|when\syou\ssummari[sz]e\b|(?:to|note|attention)\s(?:\w+\s){0,3}?(?:ai|bots?|automated\ssystems?|language\smodels?|transcribers?|analy[sz]ers?|assistants?|llms?)\b"
    r"|(?:you\sare|act\sas|pretend)\s(?:now\s|to\sbe\s)?(?:\w+\s){0,2}?(?:pirate|dan|assistant|bot|developer|model)\b"
    r"|(?:ignora|olvida)\s(?:\w+\s){0,3}?(?:instrucciones|reglas)|ignoriere\s(?:\w+\s){0,3}?(?:anweisungen|regeln)"
    r"|ignore[zr]?\s(?:\w+\s){0,3}?(?:instructions|consignes)|(?:clasifica|marca)\s(?:esta|la)\sllamada|zusammenfassung\b|resumen\b)",
    re.IGNORECASE,
)
_NAMES_A_MACHINE = re.compile(
    r"\b(?:(?:the|an|hey|dear|your)\sai|ai\s(?:system|model|assistant|agent)|llm|chatbot|transcription\ssoftware|call\sanalysis\ssystem|system\sthat\slistens|machine\sthat\sreads|"
    r"from\snow\son)\b",
    re.IGNORECASE,
)
_TELLS = re.compile(
    r"\b(?:write|must|should|set|mark|label|add|reads|answer|respond|output)\b", re.IGNORECASE
)
_MARKUP = re.compile(
    r"</?[a-z_]{2,20}>|<\|[a-z_]{2,20}\|>|\[/?[A-Z]{3,10}\]|\{\s*+\"|```|^[ \t]*+(?:---|#{1,6}\s)|\bhttps?://|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{60,}+",
    re.MULTILINE,
)


def without_words_to_machines(transcript: Transcript) -> Transcript:
    """The transcript with blanks in place of such sentences, so that every offset stays."""
    turns = tuple(_cleaned(turn) for turn in transcript.turns)
    return Transcript(turns) if turns != transcript.turns else transcript


def _cleaned(turn: Turn) -> Turn:
    text = turn.text
    blanks = [found.span() for found in _TURNED.finditer(text)]
    for start, end in sentence_spans(text):
        sentence = text[start:end]
        read = " ".join(_UNSEEN.sub("", sentence).split())
        told = _NAMES_A_MACHINE.search(read) and _TELLS.search(read)
        if told or _TO_A_MACHINE.search(read) or _MARKUP.search(sentence):
            blanks.append((start, end))
    if not blanks:
        return turn
    pieces, at = [], 0
    for start, end in sorted(blanks):
        pieces += [text[at:start], " " * (end - max(at, start))]
        at = max(at, end)
    return replace(turn, text="".join([*pieces, text[at:]]))
