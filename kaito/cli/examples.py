"""Examples: the manifests under examples/, which the wheel carries along."""

from __future__ import annotations

from pathlib import Path

_PACKAGED = Path(__file__).parent / "manifests"
_CHECKOUT = Path(__file__).parents[2] / "examples"


def example(name: str) -> Path:
    """Returns the path of a manifest, such as ``inference/kaito_workspace_phi_3.yaml``.

    Raises:
        FileNotFoundError: there is no such example.
    """
    for folder in (_PACKAGED, _CHECKOUT):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"example {name}: not in {_PACKAGED} nor in {_CHECKOUT}")
