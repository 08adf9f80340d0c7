"""The worker's side of the Whisper engine: one loaded model, one window of speech a job, several jobs at once."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens, pad_or_trim
from numpy.typing import NDArray

from trunkline_audio.engines import windows
from trunkline_audio.engines.whisper.languages import likeliest
from trunkline_audio.media.preprocess.timeline import RATE
from trunkline_audio.workers import frames

Samples = NDArray[np.float32]
HeardWord = tuple[str, float, float, float]
"""Text, start and end in seconds of the window, probability."""

CONFIDENT = 0.8
"""Probability from which a window's own language is believed without asking the rest of the call."""
RIVAL = 0.1
"""A language that is at least this part as probable as the chosen one is tried beside it, if that isn't `CONFIDENT`."""
CLEARER = 3.0
"""By how much the text in a rival's language must be more probable, in the logarithm of the whole text."""
TOKENS_A_SECOND = 35
MOST_TOKENS = 440
"""Of a window. English takes 5 tokens a second, scripts that Whisper spells in bytes up to 35; its context holds
448, the prompt included."""
CONTEXT_TOKENS = 448
PHRASES_TOKENS = 200
"""Of the phrases that a window is listened to with: beyond that, they are left out from the end."""
MOST_COMPRESSION = 2.4
"""Text that zlib makes smaller than this repeats itself, as OpenAI's own decoder has it."""
NO_SPEECH = 0.6
LEAST_LOG_PROBABILITY = -1.0
"""Beyond both, a window holds no speech, as OpenAI's own decoder has it."""
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"


@dataclass(frozen=True)
class Wording:
    """What the model wrote: tokens, their mean log probability, and how surely there was no speech, 0 to 1.

    `cut` says that more was said than the model could write, `looped` that it ran in circles at first.
    """

    language: str
    tokens: list[int]
    log_probability: float
    no_speech: float
    cut: bool = False
    looped: bool = False

    @property
    def likelihood(self) -> float:
        """The logarithm of the whole text's probability: the mean favours scripts that take many tokens a letter."""
        return self.log_probability * len(self.tokens)

    @property
    def silent(self) -> bool:
        """Whether nobody seems to speak."""
        return self.no_speech > NO_SPEECH and self.log_probability < LEAST_LOG_PROBABILITY


class Listener:
    """A Whisper model; safe to be used by as many threads as it has `lanes`."""

    def __init__(
        self, path: str, *, device: str, compute_type: str, lanes: int, beam: int, english: bool = False
    ) -> None:
        """With `english`, what is said in other languages is written in English."""
        # One thread a lane: two lanes of one thread do a third more than one lane of two (decisions/0013).
        self._model = WhisperModel(
            path,
            device=device,
            compute_type=compute_type,
            cpu_threads=1,
            num_workers=lanes,
            local_files_only=True,
        )
        self._beam = beam
        self.multilingual = bool(self._model.model.is_multilingual)
        self._english = english and self.multilingual

    def languages(self, encoded: Any) -> list[tuple[str, float]]:
        """Languages by probability, the likeliest first, as Whisper's codes."""
        if not self.multilingual:
            return [("en", 1.0)]
        found = self._model.model.detect_language(encoded)[0]
        return [(token.removeprefix("<|").removesuffix("|>"), float(share)) for token, share in found]

    def renders(self, language: str) -> bool:
        """Whether it writes what is said in a language in English."""
        return self._english and language not in ("", "en")

    def encoded(self, samples: Samples) -> tuple[Any, int]:
        """The model's own view of a window, and how many frames of 10 ms it has."""
        features = self._model.feature_extractor(samples)
        count = features.shape[-1] - 1
        return self._model.encode(pad_or_trim(features[:, :count])), count

    def text(self, encoded: Any, count: int, language: str, phrases: Sequence[str] = ()) -> Wording:
        """What the model writes of a window in a language.

        The model reads as many of the `phrases` as fit, as if they had been said before.

        Decoding is deterministic: text that runs in circles is written once more with repetition forbidden,
        not at a higher temperature.
        """
        tokenizer = self._tokenizer(language)
        # Without time tokens the text is better and shorter; words get their times from the alignment.
        prompt = self._model.get_prompt(
            tokenizer, [], without_timestamps=True, hotwords=spoken_before(phrases, tokenizer.encode)
        )
        most = min(MOST_TOKENS, 16 + count * TOKENS_A_SECOND // 100, CONTEXT_TOKENS - len(prompt))
        text = self._written(encoded, tokenizer, prompt, most)
        if compression(tokenizer.decode(text.tokens)) > MOST_COMPRESSION:
            text = self._written(encoded, tokenizer, prompt, most, no_repeat_ngram_size=3)
            text = replace(text, looped=True)
        return replace(text, cut=len(text.tokens) >= most)

    def words(self, encoded: Any, count: int, text: Wording) -> list[HeardWord]:
        """The words of a text with their times, texts with their spaces; none where nobody seems to speak."""
        if text.silent:
            return []
        segment: dict[str, Any] = {"seek": 0, "start": 0.0, "end": count / 100, "tokens": text.tokens}
        self._model.add_word_timestamps(
            [[segment]],
            self._tokenizer(text.language),
            encoded,
            count,
            PREPENDED,
            APPENDED,
            last_speech_timestamp=0.0,
        )
        return [
            (str(word["word"]), float(word["start"]), float(word["end"]), float(word["probability"]))
            for word in segment.get("words", ())
        ]

    def _tokenizer(self, language: str) -> Tokenizer:
        task = "translate" if self.renders(language) else "transcribe"
        return Tokenizer(self._model.hf_tokenizer, self.multilingual, task=task, language=language)

    def _written(
        self, encoded: Any, tokenizer: Tokenizer, prompt: list[int], most: int, **options: Any
    ) -> Wording:
        (result,) = self._model.model.generate(
            encoded,
            [prompt],
            beam_size=self._beam,
            max_length=len(prompt) + most,
            suppress_blank=True,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
            **options,
        )
        tokens = list(result.sequences_ids[0])
        score = float(result.scores[0]) * len(tokens) / (len(tokens) + 1)
        return Wording(tokenizer.language_code, tokens, score, float(result.no_speech_prob))


def compression(text: str) -> float:
    """How many times smaller zlib makes a text, at a byte a letter: scripts of three bytes a letter seem to repeat."""
    body = bytes(ord(letter) & 0xFF for letter in text)
    return len(body) / len(zlib.compress(body)) if body else 0.0


def spoken_before(phrases: Sequence[str], encode: Callable[[str], Sequence[int]]) -> str | None:
    """The text of as many whole phrases as `PHRASES_TOKENS` hold, the first ones first; None for none."""
    text, left = "", PHRASES_TOKENS
    for phrase in phrases:
        more = f", {phrase}" if text else phrase
        left -= len(encode(more))
        if left < 0:
            break
        text += more
    return text or None


def chosen(languages: Sequence[tuple[str, float]], wanted: str, *, decide: bool) -> str:
    """The language to write a window in, or empty when the rest of the call is to be asked first.

    `wanted` is the language that the caller named, or empty.
    """
    best, share = languages[0]
    if best == wanted or share >= CONFIDENT:
        return best
    return likeliest([(1.0, list(languages))], wanted) if decide else ""


def tried(languages: Sequence[tuple[str, float]], language: str, wanted: str) -> list[str]:
    """The languages to write a window in that has to be decided by itself: the chosen one, and its rival if it has one.

    A language that is certain, or that the caller named, has none.
    """
    shares = dict(languages)
    share = shares.pop(language, 0.0)
    if not shares or language == wanted or share >= CONFIDENT:
        return [language]
    rival, next_share = max(shares.items(), key=lambda item: item[1])
    return [language, rival] if next_share >= RIVAL * share else [language]


def likelier(texts: Sequence[Wording]) -> Wording:
    """The text to believe: the first one, unless a rival's is clearly more probable.

    A wrong language gives itself away: the model finds its own text improbable. Text that runs in circles is probable
    in any language, so a rival's does not count. Where nobody seems to speak, no other language is looked for.
    """
    first, *rivals = texts
    if first.silent:
        return first
    clear = [rival for rival in rivals if not rival.looped]
    best = max(clear, key=lambda text: text.likelihood, default=first)
    return best if first.looped or best.likelihood > first.likelihood + CLEARER else first


def handler(
    path: str, device: str, compute_type: str, lanes: int, beam: int, english: bool = False
) -> Callable[[frames.Message], frames.Message]:
    """Loads the model, then answers jobs {path, spans, phrases, wanted, decide} with {languages, language, words, cut}.

    `spans` are [start, end] in samples of the lane's file. A word is [text, span, start, end, probability], in
    seconds of the recording; texts join to the sentence as they are. `language` is empty, and no words are there,
    when `decide` is false and the window's language is not certain; {path, spans, phrases, language} then writes it in
    the language that the caller chose. `cut` says that more was said than the model could write. `languages` is empty
    for a model that writes English only: it cannot tell. `english` says that the words are an English rendering.
    """
    listener = Listener(
        path, device=device, compute_type=compute_type, lanes=lanes, beam=beam, english=english
    )

    def handle(request: frames.Message) -> frames.Message:
        spans = [(int(start), int(end)) for start, end in request["spans"]]
        window = windows.samples(Path(str(request["path"])), spans)
        encoded, count = listener.encoded(window.astype(np.float32) / 32768.0)
        languages = listener.languages(encoded)
        wanted, given = str(request.get("wanted", "")), str(request.get("language", ""))
        language = given or chosen(languages, wanted, decide=bool(request.get("decide")))
        phrases = [str(phrase) for phrase in request.get("phrases", ())]
        text, words = None, []
        if language:
            candidates = [given] if given else tried(languages, language, wanted)
            text = likelier([listener.text(encoded, count, one, phrases) for one in candidates])
            words = listener.words(encoded, count, text)
        return {
            "languages": [[code, round(share, 4)] for code, share in languages[:5] if listener.multilingual],
            "language": text.language if text else "",
            "words": in_place(words, spans),
            "cut": bool(words) and text is not None and text.cut,
            "english": text is not None and listener.renders(text.language),
        }

    _warm(listener)
    return handle


def in_place(words: Sequence[HeardWord], spans: Sequence[tuple[int, int]]) -> list[list[Any]]:
    """Words of a window as the answer has them."""
    out: list[list[Any]] = []
    for owner, mine in enumerate(windows.in_place(words, spans)):
        for text, begins, ends, probability in mine:
            confidence = probability if probability is not None and math.isfinite(probability) else 0.0
            # A text that ends inside a letter has a replacement character for the rest of it.
            out.append([text.replace("\ufffd", ""), owner, begins, ends, round(confidence, 4)])
    return [word for word in out if word[0].strip()]


def _warm(listener: Listener) -> None:
    """Listens to a second of silence: libraries load some of their parts, up to 2 s, only when first used."""
    encoded, count = listener.encoded(np.zeros(RATE, np.float32))
    listener.languages(encoded)
    listener.words(encoded, count, listener.text(encoded, count, "en"))
