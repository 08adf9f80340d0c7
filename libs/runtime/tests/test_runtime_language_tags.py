import pytest
from trunkline_runtime.language_tags import is_among, may_be_english


@pytest.mark.parametrize("tag", ["", "und", "en", "EN_us", "en-GB", "eng"])
def test_english_is_told_by_any_of_its_tags(tag):
    assert may_be_english(tag)
    assert is_among(tag, {"en"})


@pytest.mark.parametrize("tag", ["es", "es_MX", "enm", "fil"])
def test_another_language_is_none_of_them(tag):
    assert not may_be_english(tag)
    assert not is_among(tag, {"en"})
    assert is_among(tag, None)


def test_a_region_does_not_matter():
    assert is_among("ES_mx", {"en", "es"})
