"""Access: a permission is written down in a way that an API server can grant, or is refused with what to write."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kaito.kube.core_v1 import Node, Pod, Secret
from kaito.kube.resource import Resource
from kaito.runtime import Access


def test_it_says_of_what_what_and_where() -> None:
    access = Access(Pod, "create", subresource="eviction", names=["a"], namespace="demo")
    assert access.resource == "pods/eviction"
    assert (access.verbs, access.names, access.namespace) == (("create",), ("a",), "demo")
    assert access == Access(Pod, "create", subresource="eviction", names=("a",), namespace="demo")
    assert Access(Pod, "get").resource == "pods"


@pytest.mark.parametrize(
    ("kind", "verbs", "more", "text"),
    [
        (Node, (), {}, "Access(Node): no verbs; name some of get, list, watch"),
        (Node, ("GET",), {}, "there is no verb 'GET'; did you mean get?"),
        (Node, ("delete_collection",), {}, "no verb 'delete_collection'; did you mean deletecollection?"),
        (Node, ("read",), {}, "there is no verb 'read'; "),
        (Node, ("*",), {}, "verb '*' would allow anything; name the verbs that are needed"),
        (Node, ("get",), {"namespace": "demo"}, "namespace is 'demo', but the kind is cluster-scoped"),
        (Secret, ("get", "create"), {"names": ["a"]}, "create cannot be limited to names"),
        (Secret, ("get",), {"names": "a"}, "names is the text 'a'; expected a list: ['a']"),
    ],
)
def test_what_no_rule_could_say_is_refused(
    kind: type[Resource], verbs: tuple[str, ...], more: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Access(kind, *verbs, **more)


def test_verbs_that_guard_built_in_kinds_are_known() -> None:
    assert Access(Secret, "use", "bind").verbs == ("use", "bind")
