"""Prints docs/reference.md: the public names of the library, from their docstrings. `make reference` writes it."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from types import ModuleType
from typing import ForwardRef

PACKAGES = (
    "kaito.runtime",
    "kaito.runtime.election",
    "kaito.runtime.webhook",
    "kaito.runtime.rbac",
    "kaito.runtime.roles",
    "kaito.informers",
    "kaito.client",
    "kaito.kube",
    "kaito.kube.conditions",
    "kaito.kube.validation",
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
        for public in sorted(names(package), key=str.lower):
            yield from entry(package, public)


def names(package: ModuleType) -> Iterable[str]:
    """What a package says is public; of a module that says nothing, the classes and functions that it defines."""
    if hasattr(package, "__all__"):
        return package.__all__
    own = (name for name, thing in tuple(vars(package).items()) if getattr(thing, "__module__", "") == package.__name__)
    return [name for name in own if not name.startswith("_") and callable(getattr(package, name))]


def entry(package: ModuleType, name: str) -> Iterator[str]:
    """What is said of one name: its signature, its first paragraph, its arguments and its public methods."""
    thing = inspect.unwrap(getattr(package, name))
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        yield f"\n### {name}\n\n`{without_modules(repr(thing))}`\n"
        return
    yield f"\n### {name}\n\n```python\n{kind_of(thing)}{signature(name, thing)}\n```\n\n{paragraph(thing)}\n"
    yield from listed(thing)
    if inspect.isclass(thing):
        yield from members(thing)
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


def signature(name: str, thing: Callable[..., object]) -> str:
    """The call, as it stands in the source."""
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return f"{name}({', '.join(base.__name__ for base in thing.__bases__)})"
    if inspect.isclass(thing) and (issubclass(thing, Enum) or is_model(thing) or is_protocol(thing)):
        return name
    try:
        found = inspect.signature(thing)
    except ValueError:  # a class that takes what its built-in base takes
        return name
    shown = [each.replace(annotation=verbatim(each.annotation)) for each in found.parameters.values()]
    returned = found.empty if inspect.isclass(thing) else verbatim(found.return_annotation)
    call = str(found.replace(parameters=shown, return_annotation=returned))
    call = re.sub(r"\b(?:Posix|Windows)(Path\()", r"\1", call)
    return name + without_modules(call)


def without_modules(text: str) -> str:
    """`Mapping` instead of `collections.abc.Mapping`, no signs of type variables, no addresses."""
    text = re.sub(r"<function [^<>]*(?:<[^<>]*>)?[^<>]*>", "…", text)
    text = re.sub(r"\b(?:kaito|collections|typing|datetime|enum)(?:\.[a-z_0-9]+)*\.(?=\w)", "", text)
    return re.sub(r"~(?=[A-Z])", "", text)


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


def members(thing: type) -> Iterator[str]:
    """What an enumeration, or a dictionary with known keys, has."""
    if issubclass(thing, Enum):
        yield "\nMembers: " + ", ".join(f"`{name}`" for name in thing.__members__) + ".\n"
    elif issubclass(thing, dict) and thing.__annotations__:
        keys = (f"`{name}: {without_modules(str(verbatim(kind)))}`" for name, kind in thing.__annotations__.items())
        yield f"\nKeys: {', '.join(keys)}.\n"


def methods(thing: type) -> Iterator[str]:
    """The public methods and properties of a class, each with its arguments, and the first paragraph on it."""
    rows: dict[str, str] = {}
    for name, member in ((name, member) for part in own_parts(thing) for name, member in tuple(vars(part).items())):
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if name.startswith("_") or name in rows or not inspect.isfunction(function) or not function.__doc__:
            continue
        call = (
            name
            if isinstance(member, property)
            else re.sub(r"\((?:self|cls)(?:, )?", "(", signature(name, function), count=1)
        )
        said = "".join(f"  {line}\n" for line in items(function, "Args", "Raises"))
        wait = "await " if inspect.iscoroutinefunction(function) else ""
        rows[name] = f"- `{wait}{call}`: {paragraph(function)}\n{said}"
    if rows:
        yield "\nMethods and properties:\n\n"
        yield from rows.values()


def own_parts(thing: type) -> Iterator[type]:
    """The class, and what it inherits from of this library that has no entry of its own where it is read."""
    for part in thing.__mro__:
        if part is thing or (part.__module__.startswith("kaito.") and not is_model(part) and not is_protocol(part)):
            yield part


def items(thing: object, *titles: str) -> Iterator[str]:
    """What the sections of a docstring that are lists say, as one list."""
    for title, body in sections(thing):
        if title in titles:
            yield from (f"- {' '.join(item.split())}" for item in re.split(r"\n(?=    \S)", body.rstrip("\n")))


def sections(thing: object) -> list[tuple[str, str]]:
    """The sections of a docstring that are lists: arguments, attributes, errors."""
    text = inspect.getdoc(thing) or ""
    return re.findall(r"^(Args|Attributes|Returns|Raises):\n((?:(?:    .*)?\n?)+)", text, re.MULTILINE)


def listed(thing: object) -> Iterator[str]:
    """The sections of a docstring that are lists, each under its title."""
    for title, _ in sections(thing):
        yield f"\n{title}:\n\n"
        yield from (f"{item}\n" for item in items(thing, title))


def paragraph(thing: object) -> str:
    """The first paragraph of a docstring, on one line."""
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("::", ":").replace("``", "`")


if __name__ == "__main__":
    print("".join(pages()), end="")
