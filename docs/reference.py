"""Prints docs/reference.md: the public names of the library, from their docstrings. `make reference` writes it."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import ForwardRef

PACKAGES = (
    "kaito.runtime",
    "kaito.runtime.election",
    "kaito.runtime.webhook",
    "kaito.informers",
    "kaito.client",
    "kaito.kube",
    "kaito.testing",
    "kaito.testing.fake_api",
)
HEAD = """\
# Reference

The public names of each package, from their docstrings; what is not here may change without notice. Written by
`make reference`; a test keeps it true. Guides: [tutorial](tutorial.md), [concepts](concepts.md), [and more](README.md).
"""


def pages() -> Iterator[str]:
    """The document, in parts."""
    yield HEAD
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield f"\n## {name}\n\n{paragraph(package)}\n"
        for public in sorted(package.__all__, key=str.lower):
            yield from entry(package, public)


def entry(package: ModuleType, name: str) -> Iterator[str]:
    """What is said of one name: its signature, its first paragraph, its arguments and its public methods."""
    thing = getattr(package, name)
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        yield f"\n### {name}\n\n{type(thing).__name__}{'' if callable(thing) else f': `{thing!r}`'}\n"
        return
    yield f"\n### {name}\n\n```python\n{kind_of(thing)}{signature(name, thing)}\n```\n\n{paragraph(thing)}\n"
    yield from listed(thing)
    if inspect.isclass(thing) and not is_model(thing):
        yield from methods(thing)


def kind_of(thing: object) -> str:
    """``class``, ``async def`` or ``def``, and a space."""
    if inspect.isclass(thing):
        return "class "
    return "async def " if inspect.iscoroutinefunction(thing) else "def "


class Verbatim(str):
    """An annotation that is shown as it is written."""

    __slots__ = ()
    __repr__ = str.__str__


def signature(name: str, thing: object) -> str:
    """The call, as it stands in the source."""
    if inspect.isclass(thing) and (issubclass(thing, (BaseException, Enum)) or is_model(thing) or is_protocol(thing)):
        return name
    try:
        found = inspect.signature(thing)  # type: ignore[arg-type]
    except ValueError:  # a class that takes what its built-in base takes
        return name
    shown = [each.replace(annotation=verbatim(each.annotation)) for each in found.parameters.values()]
    returned = found.empty if inspect.isclass(thing) else verbatim(found.return_annotation)
    call = str(found.replace(parameters=shown, return_annotation=returned))
    call = re.sub(r"\b(?:Posix|Windows)(Path\()", r"\1", call)
    return name + re.sub(r"<function [^<>]*(?:<[^<>]*>)?[^<>]*>", "…", call)


def verbatim(annotation: object) -> object:
    """What `inspect` prints without quotes."""
    if isinstance(annotation, ForwardRef):
        return Verbatim(annotation.__forward_arg__)
    return Verbatim(annotation) if isinstance(annotation, str) else annotation


def is_model(thing: type) -> bool:
    """Whether it is one of pydantic's, whose fields the API server documents better."""
    return hasattr(thing, "__pydantic_fields__")


def is_protocol(thing: type) -> bool:
    """Whether it is there to be implemented, not to be made."""
    return bool(getattr(thing, "_is_protocol", False))


def methods(thing: type) -> Iterator[str]:
    """The public methods and properties that a class has of its own, each with its first sentence."""
    rows = []
    for name, member in vars(thing).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        call = name if isinstance(member, property) else f"{name}()"
        said = paragraph(function)
        rows.append(f"- `{'await ' if inspect.iscoroutinefunction(function) else ''}{call}`: {said}\n")
    if rows:
        yield "\nMethods and properties:\n\n"
        yield from rows


def listed(thing: object) -> Iterator[str]:
    """The sections of a docstring that are lists: arguments, attributes, errors."""
    text = inspect.getdoc(thing) or ""
    for title, body in re.findall(r"^(Args|Attributes|Returns|Raises):\n((?:(?:    .*)?\n?)+)", text, re.MULTILINE):
        items = re.split(r"\n(?=    \S)", body.rstrip("\n"))
        yield f"\n{title}:\n\n"
        for item in items:
            yield f"- {' '.join(item.split())}\n"


def paragraph(thing: object) -> str:
    """The first paragraph of a docstring, on one line."""
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("::", ":").replace("``", "`")


if __name__ == "__main__":
    print("".join(pages()), end="")
