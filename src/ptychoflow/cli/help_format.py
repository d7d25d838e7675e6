"""Help pages for cyclopts: two columns of plain text, the same on a terminal, in a pipe and in a log."""

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

WIDTH = 100
"""Widest line, characters; narrower terminals get narrower pages."""
NAME_COLUMN = 24
"""Width of the column of names, characters; a longer name has a line of its own."""


class PlainHelp:
    """A formatter of help pages, as cyclopts calls it: usage, description, then each panel."""

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: Any) -> None:
        """Print the usage line."""
        console.soft_wrap = True  # lines are wrapped here, examples not at all, so that they can be copied
        self._print(console, f"usage: {str(usage).strip().removeprefix('Usage: ')}\n")

    def render_description(self, console: "Console", options: "ConsoleOptions", description: Any) -> None:
        """Print the description, paragraph by paragraph."""
        for paragraph in _as_text(description).split("\n\n"):
            self._print(console, textwrap.fill(paragraph, _width(console)) + "\n")

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Print a panel: its title and a row for each entry."""
        if panel.entries:
            console.print(f"{panel.title}:", style="bold", highlight=False, markup=False)
            for entry in panel.entries:
                self._print(console, _row(entry, _width(console)))
            console.print()

    def _print(self, console: "Console", text: str) -> None:
        console.print(text, highlight=False, markup=False)


def _row(entry: "HelpEntry", width: int) -> str:
    names = ", ".join(entry.display_labels)
    name = f"  {names} {entry.metavar}" if entry.metavar and not entry.positional_label else f"  {names}"
    meaning = _as_text(entry.description)
    if entry.required and not entry.positional_label:
        meaning += " [required]"
    indent = " " * NAME_COLUMN
    lines = textwrap.fill(meaning, width, initial_indent=indent, subsequent_indent=indent)
    return f"{name}\n{lines}" if len(name) >= NAME_COLUMN - 1 else name.ljust(NAME_COLUMN) + lines[NAME_COLUMN:]


def _as_text(content: Any) -> str:
    """Return the text of what cyclopts hands over, a string or an object of rich."""
    content = getattr(content, "primary_renderable", content)
    return getattr(content, "plain", "" if content is None else str(content)).strip()


def _width(console: "Console") -> int:
    return min(console.width, WIDTH) if console.is_terminal else WIDTH
