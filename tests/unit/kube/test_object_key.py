"""kaito.kube.object_key: names of objects as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.kube import ObjectKey

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,8}[a-z0-9])?", fullmatch=True)


@given(NAMES, st.none() | NAMES)
def test_a_key_survives_its_text(name: str, namespace: str | None) -> None:
    key = ObjectKey(name, namespace)
    assert ObjectKey.parse(str(key)) == key


def test_the_cluster_leads_the_text() -> None:
    assert str(ObjectKey("w", "ns", "east")) == "east:ns/w"


@pytest.mark.parametrize("text", ["", "/", "a/", "/a", "a/b/c"])
def test_other_text_is_refused_with_the_form_that_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected NAME or NAMESPACE/NAME"):
        ObjectKey.parse(text)
