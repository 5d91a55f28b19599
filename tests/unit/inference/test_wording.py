"""Names, sizes and errors in one line."""

from __future__ import annotations

import pytest

from kaito.inference.wording import first_line, size, some


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (list("abc"), "a, b, c"), (list("abcde"), "a, b, c and 2 more")]
)
def test_a_few_names_stand_for_many(names: list[str], text: str) -> None:
    assert some(names) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (7.64e9, "7.6 GB")])
def test_sizes_have_a_unit(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("error", "text"), [(ValueError("\n a\nb"), "a"), (KeyError(), "KeyError")])
def test_an_error_is_its_first_line_or_its_kind(error: Exception, text: str) -> None:
    assert first_line(error) == text
