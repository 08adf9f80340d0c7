"""Sentences with names that a speech engine does not know, for the bench of phrases: texts, voices, and names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sentence:
    """One recording: a text with the names that it is to be heard with, in one voice."""

    id: str
    voice: str
    text: str
    names: tuple[str, ...]


def _said(*lines: tuple[str, str, tuple[str, ...]]) -> tuple[Sentence, ...]:
    return tuple(Sentence(f"phrase-{n:02d}", *line) for n, line in enumerate(lines, 1))


SENTENCES = _said(
    ("slt", "Thank you for calling Brightwater Plumbing, how can I help you?", ("Brightwater Plumbing",)),
    ("rms", "I would like to speak with Mister Okafor about my bill.", ("Okafor",)),
    ("slt", "The technician will come to Wexcombe Lane tomorrow morning.", ("Wexcombe Lane",)),
    ("rms", "My water heater is a Rheem Marathon and it leaks.", ("Rheem Marathon",)),
    ("kal16", "Is Siobhan working today? She gave me a quote last week.", ("Siobhan",)),
    ("slt", "You have reached Kowalczyk and Daughters Roofing.", ("Kowalczyk",)),
    ("rms", "We live on Tchoupitoulas Street, right by the school.", ("Tchoupitoulas Street",)),
    ("kal16", "The furnace is a Goodman Amana, about ten years old.", ("Goodman Amana",)),
    ("slt", "Doctor Nguyen can see you on Friday at nine.", ("Nguyen",)),
    ("rms", "I got an invoice from Hollis Greer Dental.", ("Hollis Greer Dental",)),
    ("slt", "Our office is at twelve Quaker Ridge Court.", ("Quaker Ridge Court",)),
    ("rms", "Do you install the Navien tankless heater?", ("Navien",)),
    ("kal16", "Please tell Anneliese that I called about the gutter.", ("Anneliese",)),
    ("slt", "Thank you for calling Sandoval Heating, this is Priya.", ("Sandoval Heating", "Priya")),
    ("rms", "It is the third house on Schuylkill Avenue.", ("Schuylkill Avenue",)),
    ("kal16", "The pump is a Grundfos Alpha and makes a noise.", ("Grundfos Alpha",)),
    ("slt", "Mister Abernathy will call you back this afternoon.", ("Abernathy",)),
    ("rms", "My daughter made the appointment with Doctor Villanueva.", ("Villanueva",)),
    ("slt", "We have a new store on Piscataway Road.", ("Piscataway Road",)),
    ("rms", "How much is the Termidor treatment for a small house?", ("Termidor",)),
    ("kal16", "I spoke to Thaddeus on Monday, and nobody came.", ("Thaddeus",)),
    ("slt", "Welcome to Larkspur Veterinary, how can I help?", ("Larkspur Veterinary",)),
    ("rms", "The leak is in the basement at four Gansevoort Place.", ("Gansevoort Place",)),
    ("kal16", "Could you order the Owens Corning shingles for me?", ("Owens Corning",)),
    ("slt", "Mrs. Wojcik is in a meeting, may I take a message?", ("Wojcik",)),
    ("rms", "I am calling about the Trane Hyperion air handler.", ("Trane Hyperion",)),
)  # fmt: skip
OTHERS = (
    "Maplewood Terrace", "Delacroix", "Bosch Greentherm", "Ingrid", "Featherstone Electric", "Cattaraugus Street",
    "Moen Flo", "Balakrishnan", "Oyster Bay Road", "Kohler Veil", "Zimmerman", "Lennox Elite", "Fairhaven Dental",
    "Yusuf", "Rensselaer Drive", "Milwaukee Fuel", "Esposito", "Bryn Mawr Avenue", "Carrier Infinity", "Xiomara",
)  # fmt: skip
"""Of a tenant's list, those that nobody says."""
PHRASES = tuple(sorted({*(name for sentence in SENTENCES for name in sentence.names), *OTHERS}))
