"""KubeModel: the base of every Kubernetes type; immutable, camelCase on the wire, keeps fields it does not know."""

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from kaito.kube.frozen import FrozenJson


class KubeModel(BaseModel):
    """A frozen value of the Kubernetes API.

    Python names are snake_case, wire names camelCase; both are accepted on construction. Lists are tuples and maps are
    read-only mappings, so that an object read from a shared cache cannot be changed by any of its readers. Fields that
    the class does not declare are kept (and frozen) under their wire name, so that an update loses nothing of what a
    newer API server wrote.
    """

    # Read by __setattr__; set only on the private copies that `edit` makes. A slot, so that it costs no dict entry.
    __slots__ = ("_draft",)

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="allow",
        # Schemas are built on first use: importing the API costs a program only what it uses of it.
        defer_build=True,
    )

    if TYPE_CHECKING:
        _draft: ClassVar["_Within | None"]

    if not TYPE_CHECKING:  # a type checker would take it for a field that every constructor needs
        __pydantic_extra__: dict[str, FrozenJson]

    def edit(self) -> Self:
        """Returns a draft: a deep private copy whose attributes can be assigned, each assignment validated.

        Containers stay immutable in a draft too: assign a new tuple or mapping instead of changing one in place.

        Returns:
            An instance of the same class; usable wherever the object itself was.
        """
        return self._edit(None)

    def _edit(self, within: "_Within | None") -> Self:
        draft = self.model_copy()
        object.__setattr__(draft, "_draft", within)
        for name, value in self.__dict__.items():
            draft.__dict__[name] = _draft_of(value, _Within(draft, name))
        return draft

    def to_dict(self) -> dict[str, Any]:
        """Returns the wire form as plain dicts and lists: fields that were set, without nulls, in camelCase."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)

    def __setattr__(self, name: str, value: object) -> None:
        if not hasattr(self, "_draft"):
            self._refuse_change(name)
        self.__pydantic_validator__.validate_assignment(self, name, value)
        # What is written below a field that was only a default must not be lost for that field being unset.
        within: _Within | None = self._draft
        while within is not None:
            within.model.__pydantic_fields_set__.add(within.field)
            within = within.model._draft

    def __delattr__(self, name: str) -> None:
        self._refuse_change(name)

    def _refuse_change(self, name: str) -> NoReturn:
        raise FrozenModelError(
            f"{type(self).__name__}.{name} cannot be assigned: objects are shared and frozen; "
            f"write to the draft that .edit() returns"
        )


class FrozenModelError(TypeError):
    """An attribute of a frozen model was assigned."""


class _Within(NamedTuple):
    """Where a draft stands: in which field of which other draft."""

    model: KubeModel
    field: str


def _draft_of(value: object, within: _Within) -> object:
    if isinstance(value, KubeModel):
        return value._edit(within)
    if isinstance(value, tuple) and value and isinstance(value[0], KubeModel):
        return tuple(_draft_of(item, within) for item in value)
    return value
