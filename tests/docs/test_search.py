"""Search of the site: the words of the field lead to their page, first."""

import pytest

from .site_search import SiteSearch

PAGES_OF = {
    "position refinement": ("how-to/position-refinement", "explanation/position-refinement"),
    "mixed state": ("how-to/mixed-state-probes", "explanation/mixed-state-probe"),
    "probe retrieval": ("how-to/probe-retrieval", "explanation/probe-retrieval"),
    "convergence": ("how-to/refinement", "explanation/convergence"),
    "overlap": ("getting-started/which-method", "explanation/overlap"),
    "self-supervised": ("how-to/train-a-network", "explanation/held-out-neighbours"),
    "multi-GPU": ("how-to/multi-gpu",),
    "SLURM": ("how-to/slurm",),
    "uncertainty": ("how-to/refinement", "explanation/uncertainty"),
    "mask": ("how-to/masks-and-bad-pixels",),
    "ground truth": ("how-to/ground-truth", "explanation/metrics"),
    "FRC": ("reference/metrics", "explanation/resolution"),
}
"""The page of a subject, as a task or explained; one of them must come first, and where there are two both early."""


@pytest.fixture(scope="module")
def search(site) -> SiteSearch:
    return SiteSearch(site)


@pytest.mark.parametrize("query", PAGES_OF)
def test_a_word_of_the_field_finds_its_page_first(search, query):
    found = [page.removesuffix(".html") for page in search.pages(query)]
    assert found[0] in PAGES_OF[query], found[:5]
    assert set(PAGES_OF[query]) <= set(found[:5]), found[:5]


def test_a_word_that_stands_nowhere_finds_nothing(search):
    assert search.pages("xylophone") == []
