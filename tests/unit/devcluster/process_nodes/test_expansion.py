"""kaito.devcluster.process_nodes.variables.expand, against Kubernetes' own cases and a transcript of its code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaito.devcluster.process_nodes.variables import expand

VARIABLES = {"VAR_A": "A", "VAR_B": "B", "VAR_C": "C", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [  # of expansion_test.go
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)_$(VAR_A)", "A_A"),
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("$$(VAR_A)_$$(VAR_B)", "$(VAR_A)_$(VAR_B)"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("foo\\$(VAR_C)bar", "foo\\Cbar"),
        ("foo$$$(VAR_B)bar", "foo$Bbar"),
        ("foo$$$$(VAR_B)bar", "foo$$(VAR_B)bar"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$(VAR_A", "$(VAR_A"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$?_boo_$!", "$?_boo_$!"),
        ("$", "$"),
        ("$()", "$()"),
    ],
)
def test_kubernetes_own_cases(text: str, expanded: str) -> None:
    assert expand(text, VARIABLES) == expanded


@given(st.text("$()AB", max_size=12), st.dictionaries(st.text("AB$(", max_size=3), st.text("$()AB", max_size=3)))
def test_every_text_expands_as_kubernetes_code_does(text: str, variables: dict[str, str]) -> None:
    assert expand(text, variables) == go_expand(text, variables)


def go_expand(text: str, variables: dict[str, str]) -> str:
    """Expand and tryReadVariableName of expansion.go, line by line."""
    out, checkpoint, cursor = "", 0, 0
    while cursor < len(text):
        if text[cursor] == "$" and cursor + 1 < len(text):
            out += text[checkpoint:cursor]
            rest = text[cursor + 1 :]
            if rest[0] == "$":
                read, advance = "$", 1
            elif rest[0] == "(" and ")" in rest:
                end = rest.index(")")
                name, advance = rest[1:end], end + 1
                read = variables.get(name, f"$({name})")
            else:
                read, advance = "$" + rest[0], 1
            out += read
            cursor += advance
            checkpoint = cursor + 1
        cursor += 1
    return out + text[checkpoint:]
