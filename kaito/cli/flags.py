"""Flags in groups: a command takes dataclasses, whose fields are its flags, instead of thirty arguments."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_type_hints


def takes(*groups: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes the command of a function of groups of flags.

    Args:
        groups: dataclasses, in the order of the function's arguments. Each field is annotated as typer wants it, has a
            default, and is named like its flag.
    """

    def command_of(function: Callable[..., None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            function(*(group(**{each.name: given[each.name] for each in fields(group)}) for group in groups))

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        # What typer reads instead of the function's own.
        parameters = [parameter for group in groups for parameter in _parameters(group)]
        command.__dict__["__signature__"] = inspect.Signature(parameters)
        command.__annotations__ = {}
        return command

    return command_of


def _parameters(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(each.name, kind, default=each.default, annotation=hints[each.name]) for each in fields(group)
    ]
