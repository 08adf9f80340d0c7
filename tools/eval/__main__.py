"""How right language engines are: precision, recall, and F1 per label, calibration, and agreement.

`python -m tools.eval` takes the local engine, the transcripts by authors apart (trained on, held out), and the sample
calls. `--engine` names another engine, as TRUNKLINE_AI_ENGINE does, by the settings of the ai service; each further one
is compared with the first. `--data FILE` takes any file of one JSON object a line: id, text (turns marked `A:` agent,
`C:` caller), spam (0|1), sentiment, intent, lead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trunkline_ai.routing.settings import LOCAL
from trunkline_runtime.config import ConfigError
from trunkline_runtime.engines.base import EngineError

from tools.eval import pii
from tools.eval.asking import asked, made
from tools.eval.data import DATA, DataError, Item, read
from tools.eval.figures import TARGETS, Agreement, agreements
from tools.eval.report import Found, show_agreement, show_targets
from tools.eval.words import word_errors_or_why_not
from tools.packages import ROOT

OUT = ROOT / "build" / "eval"
TRAINED_ON, HELD_OUT = "apart-train", "apart-heldout"


def main() -> int:
    """Evaluate and report: 2 for a file or a setting that cannot be used, 1 for an engine that answers nothing."""
    parser = argparse.ArgumentParser(
        prog="make eval", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--data", type=Path, help="a file of labelled transcripts instead of our own")
    parser.add_argument(
        "--engine",
        action="append",
        metavar="NAME",
        help="local, vertex, openai, or module:factory, set up by TRUNKLINE_AI_*; again: to compare engines",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead of tables")
    parser.add_argument(
        "--mistakes", action="store_true", help="name every transcript that is labelled wrongly"
    )
    parser.add_argument("--no-words", action="store_true", help="do not transcribe the sample calls")
    options = parser.parse_args()
    engines = list(dict.fromkeys(options.engine or [LOCAL]))
    try:
        found = {name: asyncio.run(evaluated(name, sets_of(name, options.data))) for name in engines}
    except (DataError, ConfigError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    agreed = compared(found)
    if options.json:
        print(json.dumps(as_values(found, agreed), indent=2))
    else:
        show(found, agreed, mistakes=options.mistakes)
    for name, results in found.items():
        figures = figures_by_name(results)
        if not (options.engine or options.data or options.json):
            figures.update(pii.figures())
            if not options.no_words:
                figures.update(word_errors_or_why_not())
        OUT.mkdir(parents=True, exist_ok=True)
        out = OUT / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"
        out.write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        if not options.json:
            print(f"\n{results[-1].answers.engine}: figures are in {out.relative_to(ROOT)}")
    return 0


def sets_of(engine: str, data: Path | None) -> list[tuple[str, list[Item]]]:
    """The files that an engine is asked about, the one that counts last. Raises DataError."""
    if data is not None:
        return [(data.stem, read(data))]
    # Others were not trained on ours, and are paid for.
    names = [TRAINED_ON, HELD_OUT] if engine == LOCAL else [HELD_OUT]
    return [(name, read(DATA / f"{name}.jsonl")) for name in names]


async def evaluated(name: str, sets: list[tuple[str, list[Item]]]) -> list[Found]:
    """Ask an engine about each file. Raises ConfigError, and EngineError if it answers nothing of one."""
    found = []
    for title, items in sets:
        engine, at_once = made(name)
        answers = await asked(engine, items, at_once)
        if not any(answers.given):
            raise EngineError("NO_ANSWER", f"{name} answered no transcript: {answers.told}", transient=True)
        found.append(Found(title, items, answers))
    return found


def compared(found: dict[str, list[Found]]) -> dict[str, dict[str, Agreement]]:
    """How far each further engine agrees with the first, over the last file."""
    first, *others = found
    base = found[first][-1].answers.given
    return {name: agreements(base, found[name][-1].answers.given) for name in others}


def figures_by_name(results: list[Found]) -> dict[str, float]:
    """The figures of the last file by their names, and those of what was trained on with `train_` before them."""
    *before, last = results
    trained = {f"train_{name}": value for one in before for name, value in one.figures.items()}
    return {**trained, **last.figures}


def show(found: dict[str, list[Found]], agreed: dict[str, dict[str, Agreement]], *, mistakes: bool) -> None:
    """Print the tables."""
    for results in found.values():
        for one in results:
            one.show(mistakes=mistakes)
    for name, results in found.items():
        show_targets(name, results[-1].figures)
    first, *_ = found
    for name, told in agreed.items():
        show_agreement(first, name, found[first][-1].title, told)


def as_values(found: dict[str, list[Found]], agreed: dict[str, dict[str, Agreement]]) -> dict[str, Any]:
    """Everything that the tables show."""
    engines = {
        name: {"name": results[-1].answers.engine, "sets": {one.title: one.values() for one in results}}
        for name, results in found.items()
    }
    told = {name: {field: asdict(one) for field, one in fields.items()} for name, fields in agreed.items()}
    return {"targets": TARGETS, "engines": engines, "agreement_with_first": told}


if __name__ == "__main__":
    sys.exit(main())
