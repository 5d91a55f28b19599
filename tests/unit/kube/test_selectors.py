"""kaito.kube.selectors: who a label selector selects, and its text form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.kube import LabelSelector, matches, parse_selector
from kaito.kube.selectors import format_selector

KEYS = st.sampled_from(["a", "b", "example.com/c"])
VALUES = st.sampled_from(["", "x", "y", "z-1"])
LABELS = st.dictionaries(KEYS, VALUES)
REQUIREMENTS = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": sorted(values)},
        KEYS,
        st.sampled_from(["In", "NotIn"]),
        st.sets(VALUES, min_size=1, max_size=3),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator}, KEYS, st.sampled_from(["Exists", "DoesNotExist"])
    ),
)
SELECTORS = st.builds(
    lambda equal, terms: LabelSelector.model_validate({"matchLabels": equal, "matchExpressions": terms}),
    LABELS,
    st.lists(REQUIREMENTS, max_size=3),
)


@pytest.mark.parametrize(
    ("text", "selected", "other"),
    [
        ("a=b", {"a": "b"}, {"a": "c"}),
        ("a==b", {"a": "b"}, {}),
        ("a=", {"a": ""}, {"a": "b"}),
        ("a!=b", {"a": "c"}, {"a": "b"}),
        ("a!=b", {}, {"a": "b"}),
        ("a in (b, c)", {"a": "c"}, {"a": "d"}),
        ("a in (b,c)", {"a": "b"}, {}),
        ("a notin (b,c)", {}, {"a": "b"}),
        ("a", {"a": ""}, {}),
        ("!a", {"b": "c"}, {"a": "b"}),
        ("a=b,c in (d,e),!f", {"a": "b", "c": "e"}, {"a": "b", "c": "e", "f": ""}),
        ("a=b,a=c", None, {"a": "b"}),
        ("", {}, None),
        (" a = b , example.com/c ", {"a": "b", "example.com/c": "x"}, {"a": "b"}),
    ],
)
def test_queries_select_as_kubectl_does(
    text: str, selected: dict[str, str] | None, other: dict[str, str] | None
) -> None:
    selector = parse_selector(text)
    assert selected is None or matches(selector, selected)
    assert other is None or not matches(selector, other)


@pytest.mark.parametrize(
    ("text", "blamed"),
    [
        ("a=b=c", "a=b=c"),
        ("a in b", "a in b"),
        ("a,,b", "''"),
        ("a>1", "a>1"),
        ("-a=b", "-a"),
        ("a=b c", "a=b c"),
        ("a in (b;c)", "b;c"),
        ("x" * 64, "x" * 64),
    ],
)
def test_other_text_is_refused_with_the_part_that_is_wrong(text: str, blamed: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_selector(text)
    assert blamed in str(caught.value)


@given(SELECTORS, LABELS)
def test_a_selector_selects_the_same_after_a_trip_through_its_text(
    selector: LabelSelector, labels: dict[str, str]
) -> None:
    assert matches(parse_selector(format_selector(selector)), labels) == matches(selector, labels)


@given(LABELS)
def test_an_empty_selector_takes_all_and_a_missing_one_nothing(labels: dict[str, str]) -> None:
    assert matches(LabelSelector(), labels)
    assert not matches(None, labels)


def test_the_text_is_the_same_for_the_same_labels_in_any_order() -> None:
    assert format_selector(LabelSelector(match_labels={"b": "2", "a": "1"})) == "a=1,b=2"
