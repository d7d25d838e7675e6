"""Draw the imports of the library: packages as boxes, imports as arrows, cycles in red and counted.

    python docs/development/import_graph.py docs/development/imports-after.svg
    python docs/development/import_graph.py OUT.svg --source workflow     # of another tree that holds ptychoflow/

Imports inside functions count, imports for the type checker do not. A box stands above all that it imports. An arrow
that follows from two others is drawn faintly.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

PACKAGE = "ptychoflow"
BOX_HEIGHT, GAP, ROW, MARGIN, LETTER = 30, 18, 88, 24, 8.0
"""Lengths in px: height of a box, space between boxes, distance of rows, border, width of a letter."""
ROW_WIDTH = 1150
"""Boxes of one layer that are wider than this together are broken into two lines."""
DARK, FAINT, RED = "#37474f", "#cfd8dc", "#c62828"

Arrow = tuple[str, str]


@dataclass(frozen=True)
class ImportGraph:
    """Packages and their imports.

    Attributes:
        modules: number of modules of each package; a module beside the packages counts as one.
        arrows: ``(importer, imported)``, each pair once.
        cycles: groups of packages that import each other in a circle.
        module_cycles: groups of modules that do.
    """

    modules: dict[str, int]
    arrows: set[Arrow]
    cycles: list[set[str]]
    module_cycles: list[set[str]]

    def summary(self) -> str:
        """Return the numbers in a line."""
        alone = sum(count == 1 for count in self.modules.values())
        inside = sum(len(cycle) for cycle in self.cycles)
        cycles = _plural(len(self.cycles), "cycle") + (f" through {inside} packages" if inside else "")
        return (
            f"{len(self.modules) - alone} packages and {_plural(alone, 'module')} beside them, "
            f"{len(self.arrows)} arrows, {cycles}"
        )


def read_imports(source: Path) -> ImportGraph:
    """Read the imports of the package in a folder.

    Args:
        source: folder that holds ``ptychoflow/``.

    Raises:
        FileNotFoundError: if it does not.
    """
    if not (source / PACKAGE / "__init__.py").is_file():
        raise FileNotFoundError(f"{source / PACKAGE} is not a package: give the folder that holds it with --source")
    sys.path.insert(0, str(source.resolve()))
    graph = grimp.build_graph(PACKAGE, cache_dir=None, exclude_type_checking_imports=True)
    names = {module: module.split(".")[1] for module in graph.modules if "." in module}
    modules = {name: [*names.values()].count(name) for name in set(names.values())}
    between = {(one, other) for one in names for other in graph.find_modules_directly_imported_by(one) & names.keys()}
    arrows = {(names[one], names[other]) for one, other in between if names[one] != names[other]}
    return ImportGraph(modules, arrows, cycles_of(set(modules), arrows), cycles_of(set(names), between))


def cycles_of(nodes: set[str], arrows: set[Arrow]) -> list[set[str]]:
    """Return the groups of nodes that reach each other, largest first (strongly connected components)."""
    reached = {node: set(_reachable(node, arrows)) for node in nodes}
    groups = {frozenset(other for other in reached[node] if node in reached[other]) for node in nodes}
    return sorted((set(group) for group in groups if len(group) > 1), key=lambda group: (-len(group), sorted(group)))


def layers_of(graph: ImportGraph) -> list[list[str]]:
    """Return the boxes by layer, the lowest first; those of a cycle share one."""
    member = {name: frozenset(cycle) for cycle in graph.cycles for name in cycle}
    level: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in level:
            own = member.get(name, frozenset({name}))
            below = {imported for one, imported in graph.arrows if one in own} - own
            level.update(dict.fromkeys(own, 1 + max(map(height, below), default=-1)))
        return level[name]

    rows = [[] for _ in range(1 + max(map(height, graph.modules)))]
    for name in sorted(graph.modules):
        rows[level[name]].append(name)
    return rows


def draw(graph: ImportGraph) -> str:
    """Return the picture as SVG."""
    boxes, width, height = _place(graph)
    red = {arrow for arrow in graph.arrows if any(set(arrow) <= cycle for cycle in graph.cycles)}
    faint = {arrow for arrow in graph.arrows - red if _follows(arrow, graph.arrows)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif">',
        f"<title>Imports of {PACKAGE}: {graph.summary()}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        *(_marker(name, color) for name, color in (("dark", DARK), ("faint", FAINT), ("red", RED))),
    ]
    for kind, arrows in (("faint", faint), ("dark", graph.arrows - red - faint), ("red", red)):
        parts += [_arrow(boxes[one], boxes[other], kind) for one, other in sorted(arrows)]
    parts += [_box(name, graph, boxes[name]) for name in sorted(boxes)]
    parts.append(
        f'<text x="{MARGIN}" y="{height - 12:.0f}" font-size="14" fill="{DARK}">{escape(graph.summary())}</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


@dataclass(frozen=True)
class Box:
    """Where a box lies, px."""

    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        """Return the x of its middle."""
        return self.x + self.width / 2


def _place(graph: ImportGraph) -> tuple[dict[str, Box], float, float]:
    """Boxes in rows, each under the middle of those that import it; with width and height of the picture."""
    lines = [line for row in reversed(layers_of(graph)) for line in _lines(row)]
    width = 2 * MARGIN + max(_line_width(line) for line in lines)
    boxes: dict[str, Box] = {}
    for number, line in enumerate(lines):
        wanted = {name: _middle_of_importers(name, graph, boxes, width / 2) for name in line}
        x = (width - _line_width(line)) / 2
        for name in sorted(line, key=lambda name: (wanted[name], name)):
            boxes[name] = Box(x, MARGIN + number * ROW, _box_width(name))
            x += boxes[name].width + GAP
    return boxes, width, 2 * MARGIN + (len(lines) - 1) * ROW + BOX_HEIGHT + 24


def _lines(row: list[str]) -> Iterator[list[str]]:
    count = 1 + int(_line_width(row) // ROW_WIDTH)
    yield from (row[start::count] for start in range(count))


def _middle_of_importers(name: str, graph: ImportGraph, boxes: dict[str, Box], otherwise: float) -> float:
    above = [boxes[one].middle for one, imported in graph.arrows if imported == name and one in boxes]
    return sum(above) / len(above) if above else otherwise


def _line_width(line: list[str]) -> float:
    return sum(_box_width(name) + GAP for name in line) - GAP


def _box_width(name: str) -> float:
    return 20 + LETTER * len(name)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _box(name: str, graph: ImportGraph, box: Box) -> str:
    color = RED if any(name in cycle for cycle in graph.cycles) else DARK
    fill = "#e3f2fd" if graph.modules[name] > 1 else "#fff8e1"
    return (
        f'<rect x="{box.x:.1f}" y="{box.y}" width="{box.width:.1f}" height="{BOX_HEIGHT}" rx="5" fill="{fill}" '
        f'stroke="{color}"/>'
        f'<text x="{box.middle:.1f}" y="{box.y + 20}" font-size="13" text-anchor="middle" fill="{DARK}">'
        f"{escape(name)}</text>"
    )


def _arrow(one: Box, other: Box, kind: str) -> str:
    """A curve from the importer to what it imports; sideways and upwards it goes round the boxes."""
    down = other.y > one.y
    begin = one.y + BOX_HEIGHT
    end = other.y - 3 if down else other.y + BOX_HEIGHT + 3
    bend = max(28.0, (end - begin) / 2) if down else 40 + abs(one.y - other.y) / 4
    last = end - bend if down else end + bend
    color = {"dark": DARK, "faint": FAINT, "red": RED}[kind]
    return (
        f'<path d="M{one.middle:.1f} {begin:.1f} C{one.middle:.1f} {begin + bend:.1f} {other.middle:.1f} {last:.1f} '
        f'{other.middle:.1f} {end:.1f}" fill="none" stroke="{color}" marker-end="url(#{kind})"/>'
    )


def _marker(name: str, color: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{color}"/></marker>'
    )


def _follows(arrow: Arrow, arrows: set[Arrow]) -> bool:
    """Tell an arrow between boxes that are also joined by several others."""
    one, other = arrow
    return any(other in _reachable(middle, arrows - {arrow}) for start, middle in arrows - {arrow} if start == one)


def _reachable(start: str, arrows: set[Arrow]) -> set[str]:
    """All nodes that a node reaches, itself only round a cycle."""
    following: dict[str, set[str]] = {}
    for one, other in arrows:
        following.setdefault(one, set()).add(other)
    reached: set[str] = set()
    left = [*following.get(start, ())]
    while left:
        node = left.pop()
        if node not in reached:
            reached.add(node)
            left += following.get(node, ())
    return reached


def main(words: list[str] | None = None) -> None:
    """Write the picture and print its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, metavar="OUT.svg")
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[2] / "src", metavar="DIR")
    arguments = parser.parse_args(words)
    graph = read_imports(arguments.source)
    arguments.output.write_text(draw(graph))
    print(f"{graph.summary()}; {sum(graph.modules.values())} modules in all")
    print("cycles between modules:", [sorted(cycle) for cycle in graph.module_cycles] or "none")


if __name__ == "__main__":
    main()
