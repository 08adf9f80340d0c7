"""How right language engines are over labelled transcripts: `python -m tools.eval`."""

from tools.eval.asking import answers
from tools.eval.data import DATA, read, transcript_of
from tools.eval.figures import figures_of

__all__ = ["DATA", "answers", "figures_of", "read", "transcript_of"]
