"""The graph of the rules, written in Mermaid for readers of the repository, as SVG for readers of the site."""

import re
from graphlib import TopologicalSorter

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

FLOWCHART = re.compile(r"```mermaid\nflowchart LR\n(.*?)```", re.DOTALL)
WIDTH, HEIGHT, COLUMN_PX, ROW_PX, LANE_PX = 86, 30, 132, 46, 24
"""Size of a box, and space for columns, boxes and lanes, px."""
MARKER = ' marker-end="url(#arrow)"'
Station = tuple[str, int]
Links = set[tuple[Station, Station]]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Replace each flowchart by a drawing of it."""
    return FLOWCHART.sub(lambda match: svg(re.findall(r"(\w+) --> (\w+)", match[1])), markdown)


def svg(edges: list[tuple[str, str]]) -> str:
    """Draw an acyclic graph from left to right: a rule stands one column after the last rule that it reads from.

    What a rule makes for later columns runs in one lane of its own through those between.
    """
    column = _columns(edges)
    last = {rule: max((column[after] for before, after in edges if before == rule), default=0) for rule in column}
    stations = {  # (rule, column) of each box and of each lane
        (rule, number) for rule in column for number in range(column[rule], max(column[rule] + 1, last[rule]))
    }
    links = {((rule, number - 1), (rule, number)) for rule, number in stations if number > column[rule]}
    links |= {((before, column[after] - 1), (after, column[after])) for before, after in edges}
    height = _heights(stations, links, column)
    lines = "".join(_line(start, end, height, end[1] == column[end[0]]) for start, end in sorted(links))
    lanes = "".join(_lane(number, height[rule, number]) for rule, number in sorted(stations) if number > column[rule])
    boxes = "".join(_box(rule, number, height[rule, number]) for rule, number in column.items())
    width, tall = (1 + max(column.values())) * COLUMN_PX, max(height.values()) + ROW_PX / 2
    return (
        f'<svg class="rule-graph" viewBox="0 0 {width} {tall:g}" role="img" aria-label="graph of the rules"'
        f' style="max-width: {width}px; width: 100%" font-family="sans-serif" font-size="13" fill="currentColor"'
        f' stroke="currentColor"><defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7"'
        f' markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" stroke="none"/></marker></defs>'
        f"{lines}{lanes}{boxes}</svg>"
    )


def _columns(edges: list[tuple[str, str]]) -> dict[str, int]:
    before: dict[str, list[str]] = {name: [] for edge in edges for name in edge}
    for first, second in edges:
        before[second].append(first)
    column: dict[str, int] = {}
    for name in TopologicalSorter(before).static_order():
        column[name] = max((column[rule] + 1 for rule in before[name]), default=0)
    return column


def _heights(stations: set[Station], links: Links, column: dict[str, int]) -> dict[Station, float]:
    """Middle of each box and lane, px from the top: in a column, in the order of what they come from."""
    height: dict[Station, float] = {}
    for number in range(max(column.values()) + 1):
        sources = {place: [height[a] for a, b in links if b == place] for place in stations if place[1] == number}
        order = sorted(sources, key=lambda place: (sum(sources[place]) / max(len(sources[place]), 1), place))
        y = 0.0
        for place in order:
            space = ROW_PX if column[place[0]] == number else LANE_PX
            height[place] = y + space / 2
            y += space
        height |= {place: height[place] - y / 2 for place in order}
    top = min(height.values()) - ROW_PX / 2
    return {place: value - top for place, value in height.items()}


def _line(start: Station, end: Station, height: dict[Station, float], arrow: bool) -> str:
    x0, x1 = start[1] * COLUMN_PX + (COLUMN_PX + WIDTH) / 2, end[1] * COLUMN_PX + (COLUMN_PX - WIDTH) / 2
    y0, y1, bend = height[start], height[end], (x1 - x0) * 0.5
    return (
        f'<path d="M{x0:g} {y0:g}C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1:g} {y1:g}"'
        f' fill="none" opacity="0.6"{MARKER if arrow else ""}/>'
    )


def _lane(number: int, y: float) -> str:
    x = number * COLUMN_PX + (COLUMN_PX - WIDTH) / 2
    return f'<path d="M{x:g} {y:g}h{WIDTH}" opacity="0.6"/>'


def _box(name: str, number: int, y: float) -> str:
    x = number * COLUMN_PX + (COLUMN_PX - WIDTH) / 2
    return (
        f'<rect x="{x:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="none"/>'
        f'<text x="{x + WIDTH / 2:g}" y="{y + 4:g}" text-anchor="middle" stroke="none">{name}</text>'
    )
