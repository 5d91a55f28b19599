"""The flags of the catalogue: a file, and a ConfigMap that is followed while the manager runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kaito.cli.place import Place

if TYPE_CHECKING:
    from kaito.catalog import CurrentCatalog
    from kaito.kube.object_key import ObjectKey

NAME = "kaito-catalog"

CatalogOption = Annotated[
    Path | None,
    typer.Option(envvar="KAITO_CATALOG", help="YAML file with models and instance types, merged over the built-in."),
]
CatalogConfigMapOption = Annotated[
    str | None,
    typer.Option(
        envvar="KAITO_CATALOG_CONFIG_MAP",
        metavar="[NAMESPACE/]NAME",
        help="ConfigMap whose keys that end in .yaml are merged over that, whenever it changes; empty: none. Default: "
        "kaito-catalog in the manager's own namespace, in a cluster; none outside.",
    ),
]


@dataclass(frozen=True)
class CatalogFlags:
    """The flags of the catalogue."""

    catalog: CatalogOption = None
    catalog_config_map: CatalogConfigMapOption = None

    def current(self) -> "CurrentCatalog":
        """The built-in catalogue and the file.

        Raises:
            CatalogError: the file cannot be used.
        """
        from kaito.catalog import Catalog, CurrentCatalog

        return CurrentCatalog(Catalog.load(self.catalog))

    def config_map(self, place: Place) -> "ObjectKey | None":
        """The ConfigMap's key; None: there is to be none.

        Args:
            place: says whether this is a pod, and which namespace is the manager's.

        Raises:
            ValueError: it is malformed, or no namespace is known.
        """
        from kaito.kube.object_key import ObjectKey

        text = self.catalog_config_map
        if text is None:
            text = NAME if place.in_cluster else ""
        if not text:
            return None
        namespace, slash, name = text.rpartition("/")
        if not name or "/" in namespace or (slash and not namespace):
            raise ValueError(f"--catalog-config-map is {text!r}; give NAME or NAMESPACE/NAME, such as {NAME}")
        return ObjectKey(name, namespace or place.own_namespace("--catalog-config-map", f"the ConfigMap {name}"))
