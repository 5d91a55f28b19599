"""parse_yaml: reads YAML of strangers: data only, no key twice, nothing so deep or large as to harm a process."""

import yaml

try:
    from yaml import CSafeLoader as FastLoader  # parses the built-in files in 15 ms; the pure one takes 200
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as FastLoader  # type: ignore[assignment]

deepest = 20
"""Levels of nesting that a text may have; an entry of a catalogue needs 4."""

most_nodes = 200_000
"""Values that a text may have, each alias counted as all that it stands for."""


class YamlFault(ValueError):
    """A text is not YAML, or not of a kind that is read here; one line that says where."""


class YamlTooLarge(YamlFault):
    """A text has more values than are read here, which says nothing about whether it is right."""


def parse_yaml(text: str, *, limit: int = most_nodes) -> object:
    """Returns what a YAML text says, None for an empty one.

    Blocks for about 10 microseconds a value: what strangers wrote is better parsed in a thread, with a low limit.

    Args:
        text: one document.
        limit: values that it may have, each alias counted as all that it stands for.

    Raises:
        YamlFault: it cannot be read, says a key twice, is too deep, or (`YamlTooLarge`) has too many values.
    """
    try:
        _refuse_harmful(text, limit)
        return yaml.load(text, _UniqueKeyLoader)
    except YamlFault:
        raise
    # Constructors of numbers and dates raise what they please: ValueError, KeyError, AttributeError, …
    except Exception as error:
        raise YamlFault(_one_line(str(error)) or type(error).__name__) from error


def _refuse_harmful(text: str, limit: int) -> None:
    """Ends two attacks before anything is built.

    Brackets in brackets in brackets: libyaml's composer recurses, and would end the process. Aliases of aliases of
    aliases: a merge key copies all that they stand for, which doubles with each line.
    """
    depth = nodes = 0
    begun: list[tuple[str | None, int]] = []
    sizes: dict[str | None, int] = {}
    for event in yaml.parse(text, FastLoader):
        if isinstance(event, yaml.AliasEvent):
            # One that is within what it stands for would never end.
            endless = any(event.anchor == anchor for anchor, _ in begun)
            nodes += 1 + (limit if endless else sizes.get(event.anchor, 0))
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            begun.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            anchor, before = begun.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if depth > deepest:
            raise YamlFault(_one_line(f"more than {deepest} levels deep{event.start_mark}"))
        if nodes > limit:
            raise YamlTooLarge(_one_line(f"more than {limit} values{event.start_mark}"))


def _one_line(text: str) -> str:
    """Without the line breaks of PyYAML's messages, and its name for a text that has none."""
    return " ".join(text.replace('in "<unicode string>", ', "at ").split())


class _UniqueKeyLoader(FastLoader):
    """Refuses a key that is there twice: YAML would silently keep the last one."""


def _construct_unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[object, object]:
    seen: set[str] = set()
    for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
        if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
            raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:map", _construct_unique_mapping)
