"""Reading of YAML and JSON in which a key that stands twice is an error, instead of the last one winning in silence."""

import json
from typing import Any

import yaml

LARGEST = 100_000
"""Most values of a YAML text, with those that aliases repeat."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """Loader of plain data that refuses a repeated key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Return a mapping; keys of the merge key ``<<`` may be overridden."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        lines = [key.start_mark.line + 1 for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                first = lines[keys.index(key)]
                raise ValueError(f"{key} stands twice (lines {first} and {lines[number]}): remove one of them")
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """Return the plain data in a YAML text.

    Raises:
        ValueError: naming a key that stands twice, and its lines; if it is nested too deeply, or aliases make it huge.
        yaml.YAMLError: if it is not YAML.
    """
    loader = _UniqueKeyLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded_size(node, {}) > LARGEST:
            raise ValueError(f"its aliases expand to more than {LARGEST} values: write them out")
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("it is nested too deeply: write it flatter") from None
    finally:
        loader.dispose()


def _expanded_size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values in a node, those behind an alias counted each time; above the limit in a circle."""
    if id(node) not in known:
        known[id(node)] = LARGEST + 1  # until it is known: an alias to a node around it never ends
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for child in children for part in (child if isinstance(child, tuple) else (child,)))
        known[id(node)] = 1 + sum(_expanded_size(part, known) for part in parts)
    return known[id(node)]


def load_json(text: str) -> Any:
    """Return the plain data in a JSON text.

    Raises:
        ValueError: naming a key that stands twice, or an error of JSON.
    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    repeated = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
    if repeated is not None:
        raise ValueError(f"{repeated} stands twice: remove one of them")
    return dict(pairs)
