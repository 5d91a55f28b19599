"""How much each adapter counts from the start, as the environment says."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kaito.inference.errors import StartError

VARIABLE = "KAITO_ADAPTERS"


def read_strengths(environment: Mapping[str, str], directory: Path | None) -> dict[str, float]:
    """Strength by adapter name, of those that have one.

    ``KAITO_ADAPTERS`` is the way: one variable, whose mistakes can be told. The first KAITO read a variable with the
    adapter's very name; it is read still, so that a Pod made for that image serves the same here, but only where
    ``KAITO_ADAPTERS`` is silent and only if it holds a number: an adapter may be called HOME or PATH.

    Args:
        environment: the process's.
        directory: where the adapters are.

    Raises:
        StartError: ``KAITO_ADAPTERS`` is no JSON object of finite numbers, or names what is not there.
    """
    known = adapter_names(directory)
    named = {name: _number(environment[name]) for name in known if name in environment}
    given = _given(environment.get(VARIABLE, ""))
    for name in given:
        if name not in known:
            raise StartError(f"{VARIABLE}: {name!r} is no adapter; {_served(name, known, directory)}")
    return {name: strength for name, strength in named.items() if strength is not None} | given


def adapter_names(directory: Path | None) -> list[str]:
    """Names of the folders in it that hold an adapter, in order."""
    return sorted(path.parent.name for path in directory.glob("*/adapter_config.json")) if directory else []


def _given(text: str) -> dict[str, float]:
    if not text.strip():
        return {}
    form = 'a JSON object such as {"legal": 0.8}'
    try:
        strengths = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StartError(f"{VARIABLE}: {text!r} is not {form}: {error}") from None
    if not isinstance(strengths, dict):
        raise StartError(f"{VARIABLE}: {text!r} is not {form}")
    return {name: _finite(name, strength) for name, strength in strengths.items()}


def _finite(name: str, strength: Any) -> float:
    is_number = isinstance(strength, int | float) and not isinstance(strength, bool)
    # A whole number of 400 digits is JSON, and no float.
    number = _number(str(strength)) if is_number else None
    if number is None:
        raise StartError(f"{VARIABLE}: the strength of {name!r} is {json.dumps(strength)}, which is no finite number")
    return number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _served(name: str, known: list[str], directory: Path | None) -> str:
    if directory is None:
        return "there are none, since neither --adapters is given nor /mnt/adapter there"
    if not known:
        return f"no folder in {directory} has an adapter_config.json"
    [*near] = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"{directory} has {', '.join(known)}{meant}"
