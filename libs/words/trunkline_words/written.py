"""Text as people and recognisers write it: its apostrophes, its contractions, and where its words begin."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

CONTRACTIONS = {
    "im": "i am", "ive": "i have", "id": "i would", "ill": "i will", "its": "it is", "thats": "that is",
    "theres": "there is", "heres": "here is", "whats": "what is", "wheres": "where is", "whos": "who is",
    "hows": "how is", "whens": "when is", "hes": "he is", "shes": "she is", "lets": "let us",
    "youre": "you are", "youve": "you have", "youll": "you will", "youd": "you would", "weve": "we have",
    "theyre": "they are", "theyve": "they have", "theyll": "they will", "theyd": "they would",
    "dont": "do not", "doesnt": "does not", "didnt": "did not", "wont": "will not", "wouldnt": "would not",
    "cant": "can not", "cannot": "can not", "couldnt": "could not", "shouldnt": "should not",
    "isnt": "is not", "arent": "are not", "wasnt": "was not", "werent": "were not", "hasnt": "has not",
    "havent": "have not", "hadnt": "had not", "aint": "is not", "wanna": "want to", "gonna": "going to",
    "gimme": "give me", "lemme": "let me", "kinda": "kind of", "yall": "you", "yalls": "your", "okay": "ok",
    "yeah": "yes", "yep": "yes", "yup": "yes", "hiya": "hi", "somebodys": "somebody is",
    "someones": "someone is", "youse": "you", "gotta": "got to", "til": "till", "thru": "through",
    "itll": "it will", "itd": "it would", "thatll": "that will", "thatd": "that would", "therell": "there will",
    "wouldve": "would have", "couldve": "could have", "shouldve": "should have", "mustve": "must have",
    "whatll": "what will", "hed": "he would",
}  # fmt: skip
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'", "ʼ": "'"})
_WORD = re.compile(r"\w++")

Places = Mapping[str, Sequence[int]]
"""Where each word of a text begins."""


class Written(str):
    """Text as it was written, in straight apostrophes."""

    @cached_property
    def lowered(self) -> str:
        """The same in lower case."""
        return self.lower()

    @cached_property
    def places(self) -> Places | None:
        """Where each of its words begins, in lower case; None where letters have more cases than these."""
        if not self.isascii():
            return None
        places: dict[str, list[int]] = {}
        for found in _WORD.finditer(self.lowered):
            places.setdefault(found.group(), []).append(found.start())
        return places


def straightened(text: str) -> str:
    """The text with straight apostrophes, each in its place: `I’m` as `I'm`."""
    return text.replace("`", "'") if text.isascii() else text.translate(_APOSTROPHES)
