"""Arguments: what a declaration was given, checked when it is made, so that a mistake is told where it was made."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta

from kaito.kube.resource import Resource


class Arguments:
    """Checks arguments in the name of what they are for; type checkers see most of it, those who use none see this.

    Args:
        what: whose they are, such as ``Controller(Widget)``.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def kinds(self, argument: str, values: object, also: type | None = None) -> None:
        """Each must be a class of objects, or of one more class.

        Raises:
            TypeError: one is none.
        """
        for value in self._several(argument, values, "[Deployment]"):
            if also is not None and isinstance(value, also):
                continue
            if not (isinstance(value, type) and issubclass(value, Resource)):
                raise TypeError(f"{self._what}: {argument} has {value!r}; give classes of objects, such as Deployment")

    def items(self, argument: str, values: object, item: type, example: str) -> None:
        """Each must be of a class.

        Raises:
            TypeError: one is not.
        """
        for value in self._several(argument, values, f"[{example}]"):
            if not isinstance(value, item):
                raise TypeError(f"{self._what}: {argument} has {value!r}; give {item.__name__}s, such as {example}")

    def reconciler(self, value: object) -> None:
        """It must be able to reconcile.

        Raises:
            TypeError: it is a class, or cannot.
        """
        if isinstance(value, type):
            raise TypeError(f"{self._what}: the reconciler is the class {value.__name__}; give an object of it")
        if not hasattr(value, "reconcile") and not hasattr(value, "reconcile_key"):
            raise TypeError(f"{self._what}: {value!r} has neither reconcile(obj) nor reconcile_key(key)")

    def at_least_one(self, argument: str, value: object) -> None:
        """It must be a whole number above 0.

        Raises:
            TypeError: it is no whole number.
            ValueError: it is too small.
        """
        if not isinstance(value, int):
            raise TypeError(f"{self._what}: {argument} is {value!r}; give a whole number")
        if value < 1:
            raise ValueError(f"{self._what}: {argument} is {value}; at least 1 is needed")

    def time(self, argument: str, value: object) -> None:
        """It must be a timedelta above 0, or None.

        Raises:
            TypeError: it is neither.
            ValueError: it is not above 0.
        """
        if value is None:
            return
        if not isinstance(value, timedelta):
            raise TypeError(f"{self._what}: {argument} is {value!r}; give a timedelta, such as timedelta(seconds=30)")
        if value <= timedelta():
            raise ValueError(f"{self._what}: {argument} is {value}; give a time above 0")

    def _several(self, argument: str, values: object, example: str) -> Iterable[object]:
        if isinstance(values, str) or not isinstance(values, Collection):
            raise TypeError(f"{self._what}: {argument} is {values!r}; give a list, such as {example}")
        return values
