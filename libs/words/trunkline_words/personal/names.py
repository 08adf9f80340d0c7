"""Names of people: told (`my name is`, `last name`), asked for, titled, known first names, and each of them said again.

The text may be without capitals. A word that is a name and an ordinary word too, such as `will` or `june`, is a name
only where somebody is introduced, asked for, or spoken to.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from trunkline_words import numbers
from trunkline_words.calendar import MONTHS, ORDINALS, SHORT_MONTHS
from trunkline_words.personal.patterns import FIRST_NAMES
from trunkline_words.personal.speech import ORDINARY as WRITTEN_SMALL
from trunkline_words.personal.speech import Speech, phrase_lists, word_lists
from trunkline_words.written import CONTRACTIONS

_WORDS = word_lists("names")
_CENSUS, _OWN = word_lists("census", "names.toml"), word_lists("own", "names.toml")
FIRST = FIRST_NAMES | _CENSUS["first"] | _OWN["first"]
LAST = _CENSUS["last"] | _OWN["last"]
_TITLES = _WORDS["titles"]
_MONTHS = frozenset((*MONTHS, *SHORT_MONTHS))
_NEVER = _WORDS["never"] | _MONTHS | numbers.NUMBER_WORDS | frozenset(CONTRACTIONS)
_BOTH = frozenset({"will", "may", "june", "april", "august", "jan"})
"""Of those that are never of a name, the ones that are where somebody is introduced."""
ORDINARY = WRITTEN_SMALL | _BOTH | _NEVER
_NO_NAMES = _NEVER - _BOTH
_NAMES = FIRST | LAST
_ORGANISATIONS = _WORDS["organisations"]
_STREETS = _WORDS["streets"]
_TELLING = phrase_lists("names")["telling"]
"""What stands before a name that is told."""


def _by_last(phrases: Collection[tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    made: dict[str, list[tuple[str, ...]]] = {}
    for words in phrases:
        made.setdefault(words[-1], []).append(words)
    return made


def _ends_with(
    text: Callable[[int], str], index: int, phrases: Mapping[str, Collection[tuple[str, ...]]]
) -> bool:
    """Tell whether one of the phrases ends with a word."""
    return any(
        all(text(index - i) == word for i, word in enumerate(reversed(words)))
        for words in phrases.get(text(index), ())
    )


_TELLING_BY_LAST = _by_last(_TELLING)
_KIN = _WORDS["kin"]
_BESIDE = _NEVER | _TITLES | _KIN
# Before or behind it, a word that may be a name is one.
_INTRODUCING = _WORDS["introducing"]
_VOCATIVE = _WORDS["vocative"]
_ASKING = phrase_lists("names")["asking"]
_ASKING_BY_LAST = _by_last(_ASKING)
_LEADS = _WORDS["leads"]
_MOST_LEAD = 7
_MOST_WORDS = 4
_ASKED_WORDS = 14


def find_names(speech: Speech) -> Iterator[tuple[int, int]]:
    """Give the first word of each and the index behind its last word."""
    reader = _NameReader(speech)
    reader.read()
    yield from reader.spans()


class _NameReader:
    def __init__(self, speech: Speech) -> None:
        self._speech = speech
        self._ends: dict[int, int] = {}
        self._raw = [speech.raw[word.turn] for word in speech.words]

    def spans(self) -> Iterator[tuple[int, int]]:
        behind = 0
        for first in sorted(self._ends):
            if first >= behind:
                behind = self._ends[first]
                yield first, behind

    def read(self) -> None:
        speech = self._speech
        asked = self._asked()
        for index, word in enumerate(speech.words):
            if word.turn in asked and index == speech.firsts[word.turn]:
                self._answer(index)
            if word.text in _TITLES:
                self._titled(index)
            elif word.text in _TELLING_BY_LAST and self._tells(index):
                self._told(index + 1)
            elif word.text in _KIN:
                self._kin(index)
            elif word.text in ("-", "—", "–") and not speech.touches(index - 1):
                self._signed(index)
            if word.text in FIRST or (word.text.endswith("'s") and word.text[:-2] in FIRST):
                self._known(index)
            elif word.text in LAST and word.capital and not self._raw[index]:
                self._capitals(index)
            if word.text not in ORDINARY and word.text not in FIRST and word.text[0].isalpha():
                self._strange(index)
            if word.text in ("spelled", "spell", "spelling", "name"):
                self._spelt(index)
        for _, end in list(self.spans()):
            self._spelt(end - 1)
        self._again()

    def _note(self, first: int, end: int) -> None:
        if end > first:
            self._ends[first] = max(end, self._ends.get(first, 0))

    # What may be of a name.

    def _stem(self, index: int) -> str:
        text = self._speech.text(index)
        return text[:-2] if text.endswith("'s") else text

    def _possible(self, index: int, *, told: bool) -> bool:
        """Tell whether a word may begin a name; where it is told, any word may that is not an ordinary one."""
        speech = self._speech
        if not 0 <= index < len(speech.words):
            return False
        word, stem = speech.words[index], self._stem(index)
        if not stem or not stem.replace("'", "").isalpha() or stem in _NO_NAMES:
            return False
        if self._raw[index]:
            return stem in FIRST or (
                told and (stem not in ORDINARY or (stem in LAST and stem not in _FUNCTION))
            )
        return word.capital and (told or stem in FIRST or stem in LAST or stem not in ORDINARY)

    def _taken(self, index: int, *, told: bool) -> int:
        """Return the index behind the name that begins at a word; the same index where none does."""
        speech = self._speech
        if told and self._initial(index):
            behind = index + 1
            while behind < index + 4 and (self._initial(behind) or speech.text(behind) == "."):
                behind += 1
            end = self._taken(behind, told=True) if not self._initial(behind) else behind
            return end if end > behind else index
        if not self._possible(index, told=told):
            return index
        end = index + 1
        if speech.words[index].text.endswith("'s"):
            return end
        while end < index + 2 * _MOST_WORDS and speech.same_turn(index, end):
            text = speech.text(end)
            if (
                text == "-"
                and speech.touches(end - 1)
                and speech.touches(end)
                and speech.words[end + 1].text.isalpha()
            ):
                end += 2
                continue
            if len(text) == 1 and text.isalpha() and (speech.words[end].capital or self._raw[end]):
                dotted = end + 1 + (speech.text(end + 1) == ".")
                if (
                    text not in ("i", "a")
                    and self._goes_on(dotted, told=told)
                    and speech.same_turn(end, dotted)
                ):
                    end = dotted + 1
                    continue
                break
            if not self._goes_on(end, told=told):
                break
            end += 1
            if speech.words[end - 1].text.endswith("'s"):
                break
        return end

    def _initial(self, index: int) -> bool:
        text = self._speech.text(index)
        return len(text) == 1 and text.isalpha() and text not in "ia"

    def _goes_on(self, index: int, *, told: bool) -> bool:
        speech = self._speech
        if not 0 <= index < len(speech.words):
            return False
        stem = self._stem(index)
        if not stem.replace("'", "").isalpha() or len(stem) < 2:
            return False
        if not self._raw[index]:
            if speech.words[index].capital:
                return stem not in _NEVER
            if stem in ("de", "la", "van", "von", "der", "del", "da", "di", "bin", "al", "el", "st"):
                return speech.same_turn(index, index + 1) and speech.words[index + 1].capital
            return False
        if stem in _NEVER or stem in _TITLES:
            return False
        last = index + 1 >= speech.end_of_turn(index)
        if stem not in ORDINARY:
            return stem in LAST or stem in FIRST or told or last
        return (
            stem in LAST and stem not in (_FUNCTION if told else _DAILY) and (told or last) and len(stem) > 2
        )

    def _organisation(self, end: int) -> bool:
        """Tell whether a firm's or a street's name stands here, not a person's."""
        text = self._speech.text(end)
        if text == "&" or (
            text == "and" and self._speech.text(end + 1) in ("sons", "co", "company", "associates")
        ):
            return True
        return text in _ORGANISATIONS or text in _STREETS

    # Where names stand.

    def _titled(self, index: int) -> None:
        at = index + 1 + (self._speech.text(index + 1) == ".")
        if not self._speech.same_turn(index, at):
            return
        stem = self._stem(at)
        raw = self._raw[at]
        if (
            raw and not (stem in FIRST or (stem in LAST and stem not in _DAILY) or stem not in ORDINARY)
        ) or stem in _NO_NAMES:
            return
        if raw and self._speech.text(index) in ("nurse", "officer", "captain", "judge") and stem in ORDINARY:
            return
        if not raw and not self._speech.words[at].capital:
            return
        self._note(at, self._taken(at, told=True))

    def _tells(self, index: int) -> bool:
        return _ends_with(self._speech.text, index, _TELLING_BY_LAST)

    def _told(self, index: int) -> None:
        speech = self._speech
        for _ in range(3):
            if speech.text(index) in (",", ":", "uh", "um", "is", "it's", "like", "-", "by", "for", "name"):
                index += 1
        if not 0 < index < len(speech.words) or not speech.same_turn(index - 1, index):
            return
        if speech.text(index) in _TITLES:
            return
        bare = (
            speech.text(index - 1) in ("name", "attention", "surname", "me", "under", "of")
            and speech.text(index - 2) != "last"
        )
        small = self._raw[index] or not speech.words[index].capital
        if bare and small and self._stem(index) in ORDINARY and self._stem(index) not in FIRST:
            return  # `name brand`
        end = self._taken(index, told=True)
        if end > index and not self._organisation(end):
            self._note(index, end)

    def _kin(self, index: int) -> None:
        at = index + 1
        if self._speech.text(at) in ("is", ",", "named", "called", "'s"):
            at += 1
        if not self._speech.same_turn(index, at):
            return
        stem = self._stem(at)
        clear = stem not in ORDINARY and (stem in FIRST or stem in LAST)
        if clear or (
            stem in FIRST
            and at == index + 1
            and self._possible(at, told=True)
            and stem not in ("will", "may", "can")
        ):
            self._note(at, self._taken(at, told=True))

    def _signed(self, index: int) -> None:
        """`-Nate Holloway` at the end of a message."""
        speech = self._speech
        end = self._taken(index + 1, told=True)
        behind = end + (speech.text(end) == ".")
        if (
            end > index + 1
            and speech.words[index + 1].capital
            and (behind >= len(speech.words) or not speech.same_turn(index, behind))
        ):
            self._note(index + 1, end)

    def _asked(self) -> frozenset[int]:
        """Return the turns that come behind a question for a name."""
        speech = self._speech
        turns = set()
        for turn in range(len(speech.turns) - 1):
            end = speech.firsts[turn + 1]
            first = max(speech.firsts[turn], end - _ASKED_WORDS)
            said = [speech.text(i) for i in range(first, end)]
            if self._asks(said):
                turns.add(turn + 1)
        return frozenset(turns)

    def _asks(self, said: list[str]) -> bool:
        def text(index: int) -> str:
            return said[index] if index >= 0 else ""

        if any(_ends_with(text, index, _ASKING_BY_LAST) for index in range(len(said))):
            return True
        spoken = [word for word in said if word not in (".", "?", ",")]
        return bool(spoken) and spoken[-1] in ("name", "names")

    def _answer(self, index: int) -> None:
        speech = self._speech
        end = min(speech.end_of_turn(index), index + _MOST_LEAD)
        at = index
        while at < end and (speech.words[at].marks or speech.words[at].text in _LEADS):
            if (
                speech.words[at].text in FIRST
                and not self._raw[at]
                and speech.words[at].capital
                and at > index
            ):
                break
            at += 1
        if at >= speech.end_of_turn(index):
            return
        taken = self._taken(at, told=True)
        stem = self._stem(at)
        if taken == at or self._organisation(taken):
            return
        alone = (
            taken >= speech.end_of_turn(index)
            or speech.words[taken].marks
            or speech.words[taken].text.isdigit()
        )
        if stem in ORDINARY and stem not in FIRST and taken - at < 2 and not alone:
            return
        self._note(at, taken)

    def _known(self, index: int) -> None:
        """A first name of the list."""
        speech = self._speech
        word, stem = speech.words[index], self._stem(index)
        if self._ends.get(index):
            return
        before = speech.text(index - 1) if speech.same_turn(index - 1, index) else ""
        if (before in (".", "st") and speech.text(index - 2) == "st") or before in (
            "st",
            "saint",
            "fort",
            "port",
            "lake",
            "mount",
        ):
            return
        raw = self._raw[index]
        if not raw and not word.capital:
            return
        if (before == "in" and speech.text(index - 2) == "as") or (
            raw and before in ("on", "off", "near", "in")
        ):
            return  # `P as in Paul`, `the shop on dexter`
        beside = before.isalpha() and before not in _INTRODUCING and before not in _BESIDE
        if (
            beside
            and not raw
            and speech.words[index - 1].capital
            and (stem in ORDINARY or before not in _NAMES)
        ):
            return  # within another name: `Jack Daniel`, `Home Depot`
        end = self._taken(index, told=False)
        if end == index or self._organisation(end):
            return
        if any(self._organisation(i) for i in range(index + 1, end)):
            return
        if stem in ORDINARY and not self._introduced(index, end, before):
            return
        self._note(index, end)

    def _strange(self, index: int) -> None:
        """A word that is in no list, where somebody is introduced or spoken to."""
        speech = self._speech
        if self._ends.get(index) or not self._possible(index, told=True) or len(self._stem(index)) < 3:
            return
        before = speech.text(index - 1) if speech.same_turn(index - 1, index) else ""
        one_more = speech.text(index - 2) if speech.same_turn(index - 2, index) else ""
        end = self._taken(index, told=True)
        behind = speech.text(end) if speech.same_turn(index, end) else ""
        introduced = before in ("it's", "its", "i'm") or (before, one_more) in (
            ("is", "this"),
            ("is", "it"),
            ("am", "i"),
        )
        if self._raw[index]:
            told = (
                introduced
                and before not in ("i'm", "am")
                and (behind in _BEHIND_NAME or (behind == "" and end - index > 1))
            )
        else:
            greeted = before in ("hi", "hey", "dear", "thanks", "mrs", "thx") or (
                before == "," and one_more in ("thanks", "thx", "hey")
            )
            told = (introduced or greeted) and speech.words[index].said[1:].islower()
        if told and not any(self._organisation(i) for i in range(index + 1, end + 1)):
            self._note(index, end)

    def _introduced(self, index: int, end: int, before: str) -> bool:
        """Tell whether an ordinary word is a name where it stands."""
        speech = self._speech
        behind = speech.text(end) if speech.same_turn(index, end) else ""
        stem = self._stem(index)
        if stem in _MONTHS and (
            behind.isdigit() or behind[:1].isdigit() or behind in _ORDINALS or behind in numbers.NUMBER_WORDS
        ):
            return False
        if behind == "speaking":
            return True
        surname = end - index > 1 and all(self._stem(i) not in ORDINARY for i in range(index + 1, end))
        if surname and (not self._raw[index] or before in _INTRODUCING):
            return True
        ends = behind in ("", ",", ".", "!", "?") or behind in _BEHIND_NAME
        if behind in ("called", "told") or (
            before in ("tell", "told") and behind in ("that", "to", "i", "we", "he", "she", "it's")
        ):
            return stem not in _NO_VERBS
        if before in ("it's", "its") and behind in ("from", "with", "again", "calling", "here"):
            return True
        if (
            before in ("is", "it's", "its", "am", "i'm")
            and speech.text(index - 2) in ("this", "it", "hi", "hey", "hello", "i", "", ",", ".")
            and ends
        ):
            return (
                self._raw[index] is False
                or stem not in ("well", "so", "just", "will")
                or behind in ("from", "with", "at")
            )
        if before in _VOCATIVE or (before == "," and speech.text(index - 2) in _VOCATIVE):
            return (ends and stem not in ("will", "may", "can", "do", "so", "art", "my")) or (
                ends and not self._raw[index]
            )
        if not self._raw[index]:
            if before == "is" and behind in ("there", "in", "available", "around"):
                return True
            return before == "," and behind in (".", "?", "!", "")
        return behind == "here" and before in ("hey", "hi", "hello", "it's", "")

    def _capitals(self, index: int) -> None:
        """Two words with capitals, of which neither is an ordinary one and the second is a known last name."""
        speech = self._speech
        first = index - 1
        if first < 0 or not speech.same_turn(first, index) or first in self._ends:
            return
        one = speech.words[first]
        if (
            not one.capital
            or one.marks
            or one.text in ORDINARY
            or one.text in _NEVER
            or one.said.isupper()
            or not one.text.isalpha()
        ):
            return
        if self._stem(index) in ORDINARY or (
            first
            and speech.same_turn(first - 1, first)
            and speech.words[first - 1].capital
            and speech.text(first - 1) not in _NEVER
        ):
            return
        end = index + 1
        if (
            not self._organisation(end)
            and not self._organisation(index)
            and speech.text(first - 1) not in ("in", "the", "a", "at", "on", "of", "near")
        ):
            self._note(first, end)

    def _spelt(self, index: int) -> None:
        """Letters that spell a name, close behind a word for it or the name itself."""
        speech = self._speech
        for lead in range(1, 5):
            at = index + lead
            if not speech.same_turn(index, at):
                return
            end, letters = at, 0
            while speech.same_turn(at, end) and (
                (len(speech.text(end)) == 1 and speech.text(end).isalpha())
                or speech.text(end) in ("-", "dash", ".", ",", "double")
            ):
                letters += speech.text(end).isalpha() and len(speech.text(end)) == 1
                end += 1
            if letters >= 3:
                while speech.words[end - 1].marks:
                    end -= 1
                while speech.words[at].marks:
                    at += 1
                self._note(at, end)
                return
            if letters:
                return

    def _again(self) -> None:
        """What was found once is found wherever it is said again."""
        speech = self._speech
        known: set[str] = set()
        for first, end in list(self.spans()):
            known |= {self._stem(i) for i in range(first, end) if len(self._stem(i)) > 2}
        known -= _NO_NAMES
        taken = bytearray(len(speech.words) + 1)
        for first, end in self.spans():
            taken[first:end] = b"\1" * (end - first)
        index = 0
        while index < len(speech.words):
            stem = self._stem(index)
            if stem not in known or taken[index] or not self._believed(index):
                index += 1
                continue
            end = index + 1
            while (
                self._stem(end) in known
                and speech.same_turn(index, end)
                and not taken[end]
                and self._believed(end)
            ):
                end += 1
            if not self._raw[index]:
                end = max(end, self._taken(index, told=True))
            if not self._organisation(end):
                self._note(index, end)
            index = end

    def _believed(self, index: int) -> bool:
        stem = self._stem(index)
        if stem not in ORDINARY:
            return True
        before = self._speech.text(index - 1) if self._speech.same_turn(index - 1, index) else ""
        if self._raw[index]:
            if stem not in _DAILY and stem not in _MONTHS:
                return True
            behind = self._speech.text(index + 1) if self._speech.same_turn(index, index + 1) else ""
            return before in _VOCATIVE and behind in _BEHIND_VOCATIVE
        capital = self._speech.words[index].capital
        if stem in _MONTHS:
            return self._introduced(index, index + 1, before)
        return (capital and before not in ("", ".", "?", "!")) or (capital and stem not in _DAILY)


_NO_VERBS = frozenset({"will", "may", "can", "so", "do"})
_BEHIND_NAME = _WORDS["behind_name"]
_BEHIND_VOCATIVE = frozenset(
    {"", "we", "i", "i'm", "we'll", "i'll", "this", "yes", "thanks", "thank", "and", "what", ",", "."}
)
_ORDINALS = frozenset(ORDINALS)
_FUNCTION = _WORDS["function"]
"""Ordinary words that are hardly ever a last name on a telephone, though some are."""
_DAILY = _FUNCTION | _WORDS["daily"]
