"""kaito.kube: what it exports."""

from types import ModuleType

import kaito.kube


def test_all_is_exactly_the_public_names() -> None:
    public = {
        name
        for name, value in vars(kaito.kube).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(kaito.kube.__all__)


def test_all_is_sorted_and_has_no_duplicates() -> None:
    assert kaito.kube.__all__ == sorted(set(kaito.kube.__all__))
