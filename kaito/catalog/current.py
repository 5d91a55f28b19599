"""CurrentCatalog: the catalogue as it is now; what a ConfigMap adds comes and goes while the process runs."""

from collections.abc import Callable

from kaito.catalog.catalog import Catalog


class CurrentCatalog:
    """Holds the one catalogue of a process; all who look a name up ask for it anew, so that a newer one reaches them.

    Args:
        catalog: to begin with; default: the built-in one.
    """

    def __init__(self, catalog: Catalog | None = None) -> None:
        self._catalog = catalog or Catalog.load()
        self._listeners: list[Callable[[], None]] = []

    @property
    def catalog(self) -> Catalog:
        """The catalogue as of now; immutable, so that one decision is made with one catalogue."""
        return self._catalog

    def replace(self, catalog: Catalog) -> None:
        """Takes a newer catalogue, and tells those who asked."""
        self._catalog = catalog
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Has a function called after each replacement; it must not block or raise."""
        self._listeners.append(listener)
