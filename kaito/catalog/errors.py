"""What can go wrong with the catalogue.

LookupError
  UnknownModel   a preset name that it has not
  UnknownSku     an instance type that it has not
  UnknownGpu     a GPU that it has not
ValueError
  CatalogError   a file of it cannot be used
"""

longest_quoted = 100
"""Characters of a given name that a message repeats: names come from users, who may send anything."""


class UnknownModel(LookupError):
    """A preset name that the catalogue has not.

    `did_you_mean` is the name that must have been meant, if one is so near; `nearest` are names it has, best first,
    however far.
    """

    def __init__(self, name: str, *, nearest: tuple[str, ...], did_you_mean: str | None = None) -> None:
        self.name = name
        self.nearest = nearest
        self.did_you_mean = did_you_mean
        super().__init__(f"model {_quoted(name)} is not in the catalogue; {_next_step(did_you_mean, 'kaito models')}")


class UnknownSku(LookupError):
    """An instance type that the catalogue has not, or has for another cloud only (then `reason` says so).

    `did_you_mean` is the name that must have been meant, if one is so near; `nearest` are names it has, best first,
    however far; `fitting` the smallest that can serve the model in question.
    """

    def __init__(
        self,
        name: str,
        *,
        nearest: tuple[str, ...],
        did_you_mean: str | None = None,
        fitting: tuple[str, ...] = (),
        reason: str | None = None,
    ) -> None:
        self.name = name
        self.nearest = nearest
        self.did_you_mean = did_you_mean
        self.fitting = fitting
        fits = f"; smallest that fit the model: {', '.join(fitting)}" if fitting else ""
        super().__init__(
            f"instance type {_quoted(name)} {reason or 'is not in the catalogue'}{fits}; "
            f"{_next_step(did_you_mean, 'kaito skus')}"
        )


class UnknownGpu(LookupError):
    """A GPU that the catalogue has not; the message names all that it has."""

    def __init__(self, name: str, *, known: tuple[str, ...], did_you_mean: str | None = None) -> None:
        self.name = name
        self.did_you_mean = did_you_mean
        meant = f"; did you mean {did_you_mean}?" if did_you_mean else ""
        super().__init__(f"GPU {_quoted(name)} is not in the catalogue{meant}; choose among {', '.join(known)}")


class CatalogError(ValueError):
    """A catalogue file cannot be used: unreadable, not YAML, or with entries that are wrong.

    `faults` has one line for each fault, all of them, that names the file, the entry and the field.
    """

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(faults))


def _quoted(name: str) -> str:
    return repr(name if len(name) <= longest_quoted else f"{name[:longest_quoted]}...")


def _next_step(did_you_mean: str | None, command: str) -> str:
    return f"did you mean {did_you_mean}? See all with: {command}" if did_you_mean else f"see all with: {command}"
