"""kaito.kube.quantity: exact amounts, written as the API server writes them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.kube import Quantity
from kaito.kube.quantity import QuantityFormat, same_quantity

SUFFIXES = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-2", "e+1"]
TEXTS = st.builds(
    lambda sign, whole, part, suffix: f"{sign}{whole}{part}{suffix}",
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**6),
    st.sampled_from(["", ".5", ".125", ".001"]),
    st.sampled_from(SUFFIXES),
)


@pytest.mark.parametrize(
    ("text", "canonical", "value"),
    [
        ("1024Mi", "1Gi", 1024**3),
        ("1.5Gi", "1536Mi", 1536 * 1024**2),
        ("1025Ki", "1025Ki", 1025 * 1024),
        ("0.5", "500m", Fraction(1, 2)),
        (".5", "500m", Fraction(1, 2)),
        ("1.", "1", 1),
        ("1500m", "1500m", Fraction(3, 2)),
        ("1000", "1k", 1000),
        ("0.1Ki", "102400m", Fraction("102.4")),
        ("512", "512", 512),
        ("0.5Ki", "512", 512),
        ("1e3", "1e3", 1000),
        ("1E", "1E", 10**18),
        ("12e-1", "1200e-3", Fraction(6, 5)),
        ("0.1n", "1n", Fraction(1, 10**9)),
        ("-0.1n", "-1n", Fraction(-1, 10**9)),
        ("100Ei", "9223372036854775807", 2**63 - 1),
        ("-0", "0", 0),
        (7, "7", 7),
    ],
)
def test_the_canonical_form_is_the_servers(text: str | int, canonical: str, value: int | Fraction) -> None:
    quantity = Quantity.parse(text)
    assert str(quantity) == canonical
    assert quantity.value == value


@pytest.mark.parametrize(
    "text", ["", "1GB", "1 Gi", "Gi", "1gi", "--1", "1e", "1e9999", "0x10", "1K", "NaN", ".", "\u0661"]
)
def test_other_text_is_refused_with_the_suffixes_that_are_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantity .*: expected .*Ki Mi Gi.*examples: 500m") as caught:
        Quantity.parse(text)
    assert repr(text) in str(caught.value)


@given(TEXTS)
def test_the_canonical_form_means_the_same_and_is_its_own_canonical_form(text: str) -> None:
    quantity = Quantity.parse(text)
    assert Quantity.parse(str(quantity)) == quantity
    assert str(Quantity.parse(str(quantity))) == str(quantity)


@given(TEXTS, TEXTS)
def test_order_equality_and_hash_follow_the_amount(one: str, other: str) -> None:
    a, b = Quantity.parse(one), Quantity.parse(other)
    assert (a < b) == (a.value < b.value)
    assert (a == b) == (a.value == b.value)
    assert a != b or hash(a) == hash(b)


@given(TEXTS, TEXTS)
def test_sums_and_differences_are_exact(one: str, other: str) -> None:
    a, b = Quantity.parse(one), Quantity.parse(other)
    assert (a + b).value == a.value + b.value
    assert a + b - b == a


@given(st.integers(0, 2**63 - 1), st.sampled_from(["BinarySI", "DecimalSI", "DecimalExponent"]))
def test_every_int64_is_written_exactly_in_every_format(value: int, quantity_format: QuantityFormat) -> None:
    assert int(Quantity.parse(str(Quantity(Fraction(value), quantity_format)))) == value


def test_int_and_milli_round_away_from_zero() -> None:
    assert int(Quantity.parse("1100m")) == 2
    assert int(Quantity.parse("-1100m")) == -2
    assert Quantity.parse("1u").milli() == 1


def test_sums_keep_the_format_of_the_first_amount_that_is_not_zero() -> None:
    assert str(Quantity.parse("1Gi") + Quantity.parse("1Gi")) == "2Gi"
    assert str(Quantity.parse("0") + Quantity.parse("1Gi")) == "1Gi"
    assert str(Quantity.parse("1Gi") * 3) == "3Gi"


def test_same_quantity_knows_amounts_and_leaves_other_text_alone() -> None:
    assert same_quantity("1024Mi", "1Gi")
    assert same_quantity(1, "1000m")
    assert not same_quantity("1G", "1Gi")
    assert same_quantity("auto", "auto")
    assert not same_quantity("auto", "1")
