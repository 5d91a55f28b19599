"""Label selectors: matching labels, and the text form of queries (``app=web,tier in (a,b),!canary``)."""

import re
from collections.abc import Callable, Mapping

from kaito.kube.frozen import FrozenDict
from kaito.kube.meta_v1 import LabelSelector, LabelSelectorRequirement

Labels = Mapping[str, str]


def matches(selector: LabelSelector | None, labels: Labels) -> bool:
    """Whether labels meet a selector; an empty one is met by all labels, a missing one (None) by none."""
    return selector_predicate(selector)(labels)


def selector_predicate(selector: LabelSelector | None) -> Callable[[Labels], bool]:
    """Returns the test that a selector stands for, for many labels: what must be equal is looked at first."""
    if selector is None:
        return lambda labels: False
    equal = tuple(selector.match_labels.items())
    tests = tuple(_requirement_predicate(requirement) for requirement in selector.match_expressions)
    return lambda labels: all(labels.get(key) == value for key, value in equal) and all(test(labels) for test in tests)


def parse_selector(text: str) -> LabelSelector:
    """Reads a query such as kubectl's ``-l`` and the API's ``labelSelector`` take; empty text selects everything.

    Raises:
        ValueError: a term is none of ``key=value``, ``key!=value``, ``key in (a,b)``, ``key notin (a,b)``, ``key`` and
            ``!key``, or has a key or value that no label can have.
    """
    equal: dict[str, str] = {}
    requirements: list[LabelSelectorRequirement] = []
    for term in _TERM_SEPARATOR.split(text) if text.strip() else ():
        requirement = _parse_term(term.strip(), text)
        single = requirement.operator == "In" and len(requirement.values) == 1
        if single and requirement.key not in equal:
            equal[requirement.key] = requirement.values[0]
        else:
            requirements.append(requirement)
    return LabelSelector(match_labels=FrozenDict(equal), match_expressions=tuple(requirements))


def format_selector(selector: LabelSelector) -> str:
    """Returns the query text of a selector: equalities by key, then the expressions in their order."""
    equal = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    return ",".join([*equal, *(_format_requirement(requirement) for requirement in selector.match_expressions)])


_TERM_SEPARATOR = re.compile(r",(?![^()]*\))")
_EQUALITY = re.compile(r"([^\s=!()]+)\s*(==|=|!=)\s*([^\s=!()]*)")
_SET = re.compile(r"([^\s=!()]+)\s+(in|notin)\s*\(([^()]*)\)")
_EXISTENCE = re.compile(r"(!?)\s*([^\s=!()<>]+)")
_NAME = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_VALUE = re.compile(rf"({_NAME})?")


def _requirement_predicate(requirement: LabelSelectorRequirement) -> Callable[[Labels], bool]:
    key, values = requirement.key, frozenset(requirement.values)
    match requirement.operator:
        case "In":
            return lambda labels: labels.get(key) in values
        case "NotIn":
            return lambda labels: labels.get(key) not in values
        case "Exists":
            return lambda labels: key in labels
        case "DoesNotExist":
            return lambda labels: key not in labels


def _parse_term(term: str, text: str) -> LabelSelectorRequirement:
    if match := _SET.fullmatch(term):
        values = tuple(sorted({value.strip() for value in match[3].split(",")}))
        return _requirement(match[1], "In" if match[2] == "in" else "NotIn", values, text)
    if match := _EQUALITY.fullmatch(term):
        return _requirement(match[1], "NotIn" if match[2] == "!=" else "In", (match[3],), text)
    if match := _EXISTENCE.fullmatch(term):
        return _requirement(match[2], "DoesNotExist" if match[1] else "Exists", (), text)
    raise ValueError(
        f"label selector {text!r}: {term!r} is no term; expected key=value, key!=value, key in (a,b), key notin (a,b), "
        f"key or !key, joined by commas"
    )


def _requirement(key: str, operator: str, values: tuple[str, ...], text: str) -> LabelSelectorRequirement:
    if _KEY.fullmatch(key) is None:
        raise ValueError(
            f"label selector {text!r}: {key!r} is no label key; expected [DNS-PREFIX/]NAME, the name at most 63 "
            f"letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        )
    for value in values:
        if _VALUE.fullmatch(value) is None:
            raise ValueError(
                f"label selector {text!r}: {value!r} is no label value; expected at most 63 letters, digits, '-', '_' "
                f"and '.', with a letter or digit at both ends"
            )
    return LabelSelectorRequirement.model_validate({"key": key, "operator": operator, "values": values})


def _format_requirement(requirement: LabelSelectorRequirement) -> str:
    key, values = requirement.key, ",".join(requirement.values)
    match requirement.operator:
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "Exists":
            return key
        case "DoesNotExist":
            return f"!{key}"
