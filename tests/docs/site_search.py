"""Search of a built site as its browser does it: the worker of mkdocs-material, on the Python port of lunr."""

import json
import re
from pathlib import Path

from lunr.builder import Builder
from lunr.pipeline import Pipeline
from lunr.stop_word_filter import stop_word_filter
from lunr.trimmer import trimmer

WILDCARD = "*"


class SiteSearch:
    """The index of a site, with the fields and boosts of its ``search_index.json``."""

    def __init__(self, site: Path) -> None:
        """Read and index the pages and sections of a site."""
        stored = json.loads((site / "search/search_index.json").read_text())
        self.documents = {document["location"]: document for document in stored["docs"]}
        steps = {"trimmer": trimmer, "stopWordFilter": stop_word_filter}
        builder = Builder()
        builder.pipeline.add(*(step for name, step in steps.items() if name in stored["config"]["pipeline"]))
        builder.search_pipeline = Pipeline()
        builder.ref("location")
        builder.b(0)
        for name, settings in stored["config"]["fields"].items():
            builder.field(name, boost=settings["boost"])
        self._separator = re.compile(stored["config"]["separator"])
        for document in self.documents.values():
            fields = {name: re.sub(r"<[^>]+>", " ", document.get(name) or "") for name in ("title", "text", "tags")}
            builder.add(fields | {"location": document["location"]}, {"boost": document.get("boost", 1)})
        self._index = builder.build()

    def pages(self, query: str) -> list[str]:
        """Return the pages that a query finds, best first, without anchors."""
        terms = [term.lower() for term in self._separator.split(query)]
        scored = []
        for result in self._index.search(" ".join(term + WILDCARD for term in terms)):
            matched = result["match_data"].metadata
            share = sum(any(word.startswith(term) for word in matched) for term in terms) / len(terms)
            is_page = "#" not in result["ref"]
            scored.append((result["score"] * (1 + (is_page + share) ** 2), result["ref"].partition("#")[0]))
        return list(dict.fromkeys(page for _, page in sorted(scored, reverse=True)))
