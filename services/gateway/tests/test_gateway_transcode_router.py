"""Path templates: their grammar, what they match, which of several wins."""

from __future__ import annotations

import pytest
from google.api_core import path_template
from hypothesis import given
from hypothesis import strategies as st
from trunkline_gateway.api.transcode.router import Allowed, PathRouter, RouteConflict, RouteMatch
from trunkline_gateway.api.transcode.template import TemplateError, parse


def routes(*templates: str) -> PathRouter[str]:
    router: PathRouter[str] = PathRouter()
    for text in templates:
        router.add("GET", parse(text), text)
    return router


def found(router: PathRouter[str], path: str) -> tuple[str, dict[str, str]] | None:
    match = router.find("GET", path)
    return (match.target, match.values) if isinstance(match, RouteMatch) else None


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/v1/{name=tenants/*/calls/*}", "/v1/tenants/a/calls/b", {"name": "tenants/a/calls/b"}),
        ("/v1/{call.name=tenants/*}", "/v1/tenants/a", {"call.name": "tenants/a"}),
        ("/v1/{a}/x/{b}", "/v1/1/x/2", {"a": "1", "b": "2"}),
        ("/v1/{name=tenants/*}:stop", "/v1/tenants/a:stop", {"name": "tenants/a"}),
        ("/v1/{path=**}", "/v1/a/b/c", {"path": "a/b/c"}),
        ("/v1/{path=**}", "/v1", {"path": ""}),
        ("/v1/{path=files/**}:read", "/v1/files/a/b:read", {"path": "files/a/b"}),
        ("/v1/{a}", "/v1/x%2Fy%20z", {"a": "x/y z"}),
        ("/v1/{a=x/*}", "/v1/x/y%2fz%20%C3%A9", {"a": "x/y%2fz é"}),
        ("/v1/{a}", "/v1/b%3Astop", {"a": "b:stop"}),
        ("/v1/*/{a}", "/v1/any/b", {"a": "b"}),
    ],
)
def test_what_a_path_says(template: str, path: str, values: dict[str, str]) -> None:
    assert found(routes(template, "/v2/{x}:stop"), path) == (template, values)


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/v1/{name=tenants/*}", "/v1/tenants"),
        ("/v1/{name=tenants/*}", "/v1/tenants/"),
        ("/v1/{name=tenants/*}", "/v1/tenants/a/b"),
        ("/v1/{name=tenants/*}", "/v1/tenants/a/"),
        ("/v1/{name=tenants/*}", "/v1//a"),
        ("/v1/{name=tenants/*}:stop", "/v1/tenants/a"),
        ("/v1/{name=tenants/*}", "/v1/%74enants/a"),
        ("/v1/{name=tenants/*}", ""),
    ],
)
def test_what_a_path_is_not(template: str, path: str) -> None:
    assert routes(template).find("GET", path) is None


@pytest.mark.parametrize(
    ("path", "winner"),
    [
        ("/v1/things/best", "/v1/things/best"),
        ("/v1/things/other", "/v1/things/{a}"),
        ("/v1/things/best/parts", "/v1/things/{a}/parts"),
        ("/v1/x/best", "/v1/{a}/best"),
        ("/v1/x/y", "/v1/{a=**}"),
        ("/v1/things/a/b/c", "/v1/things/{a=**}"),
        ("/v1/things/best:stop", "/v1/things/{a}:stop"),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_the_most_specific_template_wins_in_any_order(path: str, winner: str, backwards: bool) -> None:
    templates = [
        "/v1/{a=**}", "/v1/{a}/best", "/v1/things/{a=**}", "/v1/things/{a}", "/v1/things/best", "/v1/things/{a}/parts",
        "/v1/things/{a}:stop",
    ]  # fmt: skip
    match = found(routes(*(reversed(templates) if backwards else templates)), path)
    assert match is not None
    assert match[0] == winner


def test_a_less_specific_template_answers_a_method_that_the_more_specific_lacks() -> None:
    router = routes("/v1/things/best")
    router.add("DELETE", parse("/v1/things/{a}"), "delete")
    assert router.find("DELETE", "/v1/things/best") == RouteMatch("delete", {"a": "best"})
    assert router.find("PUT", "/v1/things/best") == Allowed(("DELETE", "GET"))
    assert router.find("PUT", "/v1/things/x") == Allowed(("DELETE",))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/v1/{a}/x", "/v1/{b=*}/x"),
        ("/v1/{a=**}", "/v1/**"),
        ("/v1/a:b", "/v1/a:b"),
        ("/v1/{a=x/*}", "/v1/x/{b}"),
    ],
)
def test_templates_that_take_the_same_requests_conflict(one: str, other: str) -> None:
    with pytest.raises(RouteConflict, match="take the same requests") as raised:
        routes(one, other)
    assert one in str(raised.value)
    assert other in str(raised.value)


def test_verbs_methods_and_depth_tell_templates_apart() -> None:
    router = routes("/v1/{a}", "/v1/{a}:stop", "/v1/{a}/x", "/v1/{a=**}", "/v1/{a=**}:stop")
    router.add("POST", parse("/v1/{b}"), "post")
    assert found(router, "/v1/q:stop") == ("/v1/{a}:stop", {"a": "q"})


@pytest.mark.parametrize(
    "text",
    [
        "v1/x", "", "/v1/{a", "/v1/a}", "/v1/{a=b/{c}}", "/v1/{}", "/v1/{a..b}", "/v1/{1a}", "/v1//x", "/v1/",
        "/v1/{a=**}/x", "/v1/**/x", "/v1/{a=**/x}", "/v1/{a}/{a}", "/v1/{a=}", "/v1/x:", "/v1/x:a/b", "/v1/a b",
        "/v1/x{a}", "/v1/{a}x", "/v1/***", "/v1/a*",
    ],
)  # fmt: skip
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(TemplateError) as raised:
        parse(text)
    assert repr(text) in str(raised.value)


def test_a_path_that_is_not_utf8_is_not_guessed_at() -> None:
    with pytest.raises(UnicodeDecodeError):
        routes("/v1/{a}").find("GET", "/v1/%FF")


SEGMENTS = st.sampled_from(["a", "b", "tenants", "x-1"])
PIECES = st.one_of(
    SEGMENTS,
    st.just("*"),
    st.lists(st.one_of(SEGMENTS, st.just("*")), min_size=1, max_size=3).map("/".join),
)


@given(
    pieces=st.lists(PIECES, min_size=1, max_size=4),
    variable=st.integers(0, 3),
    rest=st.booleans(),
    paths=st.lists(SEGMENTS, min_size=4, max_size=12),
    fits=st.booleans(),
)
def test_we_match_what_google_api_core_matches(
    pieces: list[str], variable: int, rest: bool, paths: list[str], fits: bool
) -> None:
    parts = [*pieces, *(["**"] if rest else [])]
    at = variable % len(parts)
    text = "/".join([*parts[:at], "{name=" + parts[at] + "}", *parts[at + 1 :]])
    words = iter(paths)
    path = "/".join(paths[:4])
    if fits:
        path = "/".join(next(words, "z") if s == "*" else s for s in "/".join(pieces).split("/"))
        path += "/" + "/".join(paths[-2:]) if rest else ""
    router: PathRouter[str] = PathRouter()
    router.add("GET", parse("/" + text), "x")
    ours = router.find("GET", "/" + path)
    # Ours lets ** be nothing, as http.proto says; google.api_core wants a segment.
    if not (rest and path.count("/") + 1 == "/".join(pieces).count("/") + 1):
        assert (ours is not None) == path_template.validate(text, path)
    if isinstance(ours, RouteMatch) and text.startswith("{"):
        assert path.startswith(ours.values["name"])
