"""Quantities: Kubernetes' amounts ("500m", "1Gi", "1e3"), exact, comparable, written as the API server writes them."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import total_ordering
from math import ceil, floor
from typing import Annotated, Literal, Self

from pydantic import GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

QuantityFormat = Literal["DecimalSI", "BinarySI", "DecimalExponent"]

QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
"""What controller-gen writes into CRDs for a quantity; OpenAPI's dialect, not Python's."""


class NumberAsQuantity(str):
    """A quantity that came as a number, ``cpu: 4``: text like the others, and again the number when it is written."""

    __slots__ = ()

    @classmethod
    def of(cls, number: float) -> "NumberAsQuantity":
        """Returns the text of a number."""
        return cls(number)

    def number(self) -> int | float:
        """Returns the number that it came as."""
        return int(self) if self.lstrip("-").isdigit() else float(self)


class _AsItCame:
    """Reads texts as they are, which costs nothing, and numbers as texts that know that they are none."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        number = core_schema.union_schema([core_schema.int_schema(strict=True), core_schema.float_schema(strict=True)])
        return core_schema.union_schema(
            [
                core_schema.str_schema(strict=True),
                core_schema.no_info_after_validator_function(NumberAsQuantity.of, number),
            ],
            mode="left_to_right",
            custom_error_type="quantity_type",
            custom_error_message="Input should be a quantity: a number, or a text such as 500m or 1Gi",
            serialization=core_schema.plain_serializer_function_ser_schema(_written, when_used="json"),
        )


def _written(value: object) -> object:
    return value.number() if isinstance(value, NumberAsQuantity) else value


QuantityString = Annotated[
    str,
    _AsItCame(),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY_PATTERN,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A quantity as a model's field: the text as it came, so that reading it costs nothing; ``Quantity.parse`` computes.

A number becomes text, too, and a number again when it is written, so that an update changes only what it means to.
"""


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """An exact amount. Equality, order and hash go by value: ``Quantity.parse("1024Mi") == Quantity.parse("1Gi")``.

    ``str(quantity)`` is the canonical form that the API server writes back (apimachinery's ``CanonicalizeBytes``), and
    ``int(quantity)`` rounds away from zero, as client-go's ``Value()`` does.

    Attributes:
        value: the amount.
        format: which suffixes the canonical form uses.
    """

    value: Fraction
    format: QuantityFormat = "DecimalSI"

    @classmethod
    def parse(cls, text: str | int) -> Self:
        """Reads a quantity as apimachinery's ``ParseQuantity`` does: finer than a nano is rounded away from zero, more
        than 2^63-1 is cut to that.

        Raises:
            ValueError: the text is no quantity.
        """
        match = _QUANTITY.fullmatch(str(text))
        if match is None:
            raise ValueError(
                f"quantity {text!r}: expected a number with an optional suffix, one of {' '.join(_BINARY)} (powers of "
                f"1024), {' '.join(filter(None, _DECIMAL))} (powers of 1000) or an exponent such as e3; "
                f"examples: 500m, 2, 1.5Gi"
            )
        sign, number, suffix, exponent = match.groups()
        scale, quantity_format = _scale(suffix, exponent)
        magnitude = Fraction(number.rstrip(".")) * scale
        magnitude = min(Fraction(ceil(magnitude * _NANOS), _NANOS), _MAXIMUM)
        if quantity_format == "BinarySI" and 0 < magnitude < 1:
            quantity_format = "DecimalSI"
        return cls(-magnitude if sign == "-" else magnitude, quantity_format)

    def milli(self) -> int:
        """Returns the amount in thousandths, rounded away from zero (client-go's ``MilliValue``)."""
        return _round_away(self.value * 1000)

    def __str__(self) -> str:
        if self.format == "BinarySI" and abs(self.value) >= 1024 and self.value.denominator == 1:
            return _format_binary(self.value.numerator)
        return _format_decimal(self.value, exponent_suffix=self.format == "DecimalExponent")

    def __int__(self) -> int:
        return _round_away(self.value)

    def __bool__(self) -> bool:
        return self.value != 0

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Quantity) else NotImplemented

    def __lt__(self, other: "Quantity") -> bool:
        return self.value < other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __add__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.value + other.value, self.format if self else other.format)

    def __sub__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.value - other.value, self.format if self else other.format)

    def __mul__(self, factor: int) -> "Quantity":
        return Quantity(self.value * factor, self.format)


def same_quantity(one: str | int, other: str | int) -> bool:
    """Whether two texts mean the same amount; texts that are no quantities are the same only when equal."""
    if one == other:
        return True
    try:
        return Quantity.parse(one) == Quantity.parse(other)
    except ValueError:
        return False


_NANOS = 10**9
_MAXIMUM = Fraction(2**63 - 1)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIXES = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY_SUFFIXES = {power: suffix for suffix, power in _BINARY.items()}
# An exponent is bounded here because a text of a few bytes must not make a number of a gigabyte.
_QUANTITY = re.compile(
    r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,3}))?", re.ASCII
)


def _round_away(value: Fraction) -> int:
    return ceil(value) if value > 0 else floor(value)


def _scale(suffix: str | None, exponent: str | None) -> tuple[Fraction, QuantityFormat]:
    if exponent is not None:
        return Fraction(10) ** int(exponent), "DecimalExponent"
    if suffix in _BINARY:
        return Fraction(1024 ** _BINARY[suffix]), "BinarySI"
    return Fraction(10) ** _DECIMAL[suffix or ""], "DecimalSI"


def _format_binary(number: int) -> str:
    power = 0
    while number % 1024 == 0 and power < max(_BINARY_SUFFIXES):
        number //= 1024
        power += 1
    return f"{number}{_BINARY_SUFFIXES.get(power, '')}"


def _format_decimal(value: Fraction, *, exponent_suffix: bool) -> str:
    if value == 0:
        return "0"
    power = -9
    mantissa = value.numerator * (_NANOS // value.denominator)
    while mantissa % 1000 == 0 and power < 18:
        mantissa //= 1000
        power += 3
    if exponent_suffix:
        return f"{mantissa}e{power}" if power else str(mantissa)
    return f"{mantissa}{_DECIMAL_SUFFIXES[power]}"
