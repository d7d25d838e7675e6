"""Commands and examples that the documentation shows."""

import re
from dataclasses import dataclass
from pathlib import Path

from .conftest import ROOT

BLOCK = re.compile(
    r"^(?: *<!-- not run: (?P<reason>[^\n]*) -->\n)?"
    r"(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
SHELL = ("", "sh", "bash", "shell", "console")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: path from the root of the repository.
        language: word behind the fence.
        body: its lines, without indentation.
        reason: why its commands are not run; None where they are.
    """

    page: str
    language: str
    body: str
    reason: str | None

    @property
    def commands(self) -> list[str]:
        """Lines without comments, continued lines joined."""
        lines = self.body.replace("\\\n", " ").splitlines()
        return [line for line in (re.sub(r"\s+#.*", "", line).strip() for line in lines) if line]


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    page = path.relative_to(ROOT).as_posix()
    found = []
    for match in BLOCK.finditer(path.read_text()):
        body = re.sub(rf"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        found.append(Block(page, match["language"], body, match["reason"]))
    return found
