"""Search of the site: the words of the field lead to their page, first."""

import pytest

from .site_search import SiteSearch

PAGE_OF = {
    "position refinement": "how-to/position-refinement.html",
    "mixed state": "how-to/mixed-state-probes.html",
    "probe retrieval": "how-to/probe-retrieval.html",
    "convergence": "how-to/refinement.html",
    "overlap": "getting-started/which-method.html",
    "self-supervised": "how-to/train-a-network.html",
    "multi-GPU": "how-to/multi-gpu.html",
    "SLURM": "how-to/slurm.html",
    "uncertainty": "how-to/refinement.html",
    "mask": "how-to/masks-and-bad-pixels.html",
    "ground truth": "how-to/ground-truth.html",
    "FRC": "reference/metrics.html",
}


@pytest.fixture(scope="module")
def search(site) -> SiteSearch:
    return SiteSearch(site)


@pytest.mark.parametrize("query", PAGE_OF)
def test_a_word_of_the_field_finds_its_page_first(search, query):
    assert search.pages(query)[:1] == [PAGE_OF[query]], search.pages(query)[:5]


def test_a_word_that_stands_nowhere_finds_nothing(search):
    assert search.pages("xylophone") == []
