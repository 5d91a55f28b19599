"""Whom the Authorization header goes to."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from kaito.oci.exchange import Exchange


@pytest.mark.parametrize(
    ("url", "is_home"),
    [
        ("https://registry.test/v2/a/blobs/uploads/1", True),
        # As some proxies write the addresses of uploads.
        ("https://registry.test:443/v2/a/blobs/uploads/1", True),
        ("https://REGISTRY.test/v2/a/blobs/uploads/1", True),
        ("http://registry.test/v2/a/blobs/uploads/1", False),
        ("https://registry.test:444/v2/a/blobs/uploads/1", False),
        ("https://store.registry.test/x", False),
        ("https://somebody:password@registry.test/x", False),
    ],
)
def test_the_password_goes_to_the_registry_however_its_address_is_written(url: str, is_home: bool) -> None:
    assert Exchange(Mock(), "https://registry.test/v2/a/", 1.0).is_home(url) == is_home
