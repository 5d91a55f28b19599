"""Rules over one text: a regular expression in CEL, and the same one in Python.

Expressions are those that RE2 and Python read alike: no ``\\d``, ``\\s`` or ``\\w``, and ``$`` only for the end.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from kaito.kube.schema_markers import Rule

PLACEHOLDER: Final = "[A-Z][A-Z0-9_]*_HERE"
"""A name of the original manifests that users have to replace, such as ``ACR_REPO_HERE``."""

DNS_SUBDOMAIN: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""Kubernetes' names of most objects (RFC 1123)."""
LABEL_KEY: Final = f"({DNS_SUBDOMAIN}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
LABEL_VALUE: Final = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
"""Of a label that has a value; at most 63 characters."""


def found(expression: str) -> Callable[[str], bool]:
    """Returns CEL's ``matches``: whether the expression is found in a text, `$` being its end and nothing before it."""
    search = re.compile(expression.replace("$", r"\Z")).search
    return lambda text: search(text) is not None


def matching(expression: str, message: str, message_expression: str = "") -> Rule:
    """Returns a rule for a text that an expression must be found in."""
    matches = found(expression)
    return Rule(f"self.matches(r'{expression}')", message, message_expression, holds=lambda value, _old: matches(value))


def not_matching(expression: str, message: str, message_expression: str = "") -> Rule:
    """Returns a rule for a text that an expression must not be found in."""
    matches = found(expression)
    return Rule(
        f"!self.matches(r'{expression}')", message, message_expression, holds=lambda value, _old: not matches(value)
    )


def no_placeholder(replacement: str) -> Rule:
    """Returns a rule for a text in which no name of an example was left."""
    return not_matching(
        PLACEHOLDER,
        f"a placeholder of the example was left in: replace the name in capitals with {replacement}",
        # `findAll` would name every placeholder, but the API server takes its cost for unbounded and refuses the CRD.
        f"self.find('{PLACEHOLDER}') + ' is a placeholder of the example: "
        f"replace it, and any other name in capitals, with {replacement}'",
    )


def form(expression: str, message: str) -> Rule:
    """Returns a rule for the form of a text; a placeholder is let through, since `no_placeholder` says all of it."""
    is_placeholder, matches = found(PLACEHOLDER), found(expression)

    def holds(value: Any, _old: Any) -> bool:
        return is_placeholder(value) or matches(value)

    return Rule(f"self.matches(r'{PLACEHOLDER}') || self.matches(r'{expression}')", message, holds=holds)
