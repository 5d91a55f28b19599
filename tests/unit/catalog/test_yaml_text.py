"""What strangers write as YAML is read as data, or refused in one line; it can neither end nor fill a process."""

import pytest

from kaito.catalog.yaml_text import YamlFault, deepest, parse_yaml


def laughs(levels: int, value: str) -> str:
    """Each line stands for ten of the line before."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {value.format(', '.join([f'*a{n - 1}'] * 10))}" for n in range(1, levels)]
    return "\n".join(lines)


def test_data_is_read_with_its_aliases_and_merged_keys() -> None:
    text = "base: &base {a: 1, b: [x]}\nother: {<<: *base, a: 2}\nsame: *base"
    base = {"a": 1, "b": ["x"]}
    assert parse_yaml(text) == {"base": base, "other": base | {"a": 2}, "same": base}
    assert parse_yaml("") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "did not find expected"),
        ("a: 1\na: 2", "'a' is there twice"),
        ("[" * 100_000, f"more than {deepest} levels deep"),
        (laughs(12, "[{}]"), "more than 200000 values"),
        (laughs(12, "{{<<: [{}]}}"), "more than 200000 values"),
        ("a: &a [*a]", "more than 200000 values"),
        ("a: *nothing", "found undefined alias"),
        ("a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: 2024-13-45", "month must be in 1..12"),
        ("a: !!bool perhaps", "perhaps"),
        ("a: !!timestamp then", "NoneType"),
        ("a: \x00", "control characters are not allowed"),
    ],
)
def test_what_is_not_read_is_told_in_one_line(text: str, words: str) -> None:
    with pytest.raises(YamlFault) as caught:
        parse_yaml(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_limit_is_the_callers() -> None:
    assert parse_yaml("[1, 2]", limit=3) == [1, 2]
    with pytest.raises(YamlFault, match="more than 2 values"):
        parse_yaml("[1, 2]", limit=2)
