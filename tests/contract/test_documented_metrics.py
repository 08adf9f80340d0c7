"""Every metric that a document names is one that the code makes, with the labels and values that are said."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tools import make_metrics
from tools.metric_declarations import CODE, declared

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("services/*/README.md")),
]

_NAMED = re.compile(r"(?<![\w./-])(trunkline_[a-z0-9_]+)(\{[^}]*\})?(?![\w./-])")
_LABEL = re.compile(r"([a-z_]+)(?:=~?\"([^\"]*)\")?")
# Names that are no metrics: packages, and databases.
_PACKAGES = re.compile(r"trunkline_(gateway|tenant|audio|ai|runtime|store|words|jobs|work|cli)")


@cache
def made() -> dict[str, set[str]]:
    """The metrics that the code declares, with their labels."""
    return {one.name: set(one.labels) for one in declared()}


def documented(text: str) -> list[tuple[str, str]]:
    """The metrics that a text names, each with what stands in braces behind it."""
    return [
        (name, labels)
        for name, labels in _NAMED.findall(text)
        if not _PACKAGES.fullmatch(name) and not name.endswith("_")
    ]


@cache
def _code() -> str:
    return "\n".join(path.read_text() for path in CODE)


def problems(text: str) -> list[str]:
    """What a text says of metrics that is not so."""
    wrong = []
    for name, braces in documented(text):
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        if name not in made() and base not in made():
            wrong.append(f"{name} is made nowhere")
            continue
        for label, values in _LABEL.findall(braces):
            if label not in made().get(name, made().get(base, set())):
                wrong.append(f"{name} has no label {label}")
            wrong += [
                f"{name}: no {label} is {v}" for v in values.split("|") if v and f'"{v}"' not in _code()
            ]
    return wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_metrics_labels_and_values_that_exist(document):
    assert problems(document.read_text()) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`trunkline_refused_total{why}` and `trunkline_webhooks_go_to`", []),
        ("`trunkline_refused_total{reason}`", ["trunkline_refused_total has no label reason"]),
        ("`trunkline_refuse_total`", ["trunkline_refuse_total is made nowhere"]),
        ('`trunkline_worker_jobs_total{outcome="dun"}`', ["trunkline_worker_jobs_total: no outcome is dun"]),
        ("`python -m trunkline_gateway serve`, trunkline_store.migrate", []),
    ],
)
def test_what_is_not_so_is_found(text, wrong):
    assert problems(text) == wrong


def test_the_metrics_worth_an_alert_stand_in_the_operators_document():
    text = (ROOT / "docs" / "operations.md").read_text()
    for name in ("trunkline_webhooks_go_to", "trunkline_refused_total", "trunkline_spooled_total"):
        assert name in text


def test_the_page_of_metrics_is_as_the_code_says():
    assert make_metrics.PAGE.read_text() == make_metrics.page(), "run `make settings`"


def test_every_metric_says_what_it_means():
    assert [one.name for one in declared() if len(one.doc) < 10] == []
