"""The configurations and Python examples of the pages hold."""

import pytest
import yaml

from ptychoflow.config import Config, load_config, merge

from .conftest import PAGES
from .documented import Block, blocks

KNOWN = {
    "scans": {
        "leaves": {"simulation": {}},
        "leaves1": {"simulation": {}},
        "star": {"simulation": {}},
        "guess": {"source": {"file": "sample.cxi"}},
        "sample": {"source": {"file": "sample.cxi"}},
    },
    "methods": {
        "pinn": {"train_on": ["leaves", "leaves1"], "reconstruct": ["star"]},
        "rpie": {"initial_object": "uniform", "reconstruct": ["star", "sample"]},
        "first_look": {"initial_object": "uniform", "reconstruct": ["guess"]},
    },
}
"""What the parts of configurations on the pages refer to."""
CONFIGURATIONS = [block for path in PAGES for block in blocks(path) if block.language == "yaml"]
OTHER_FILES = ({"set-resources"},)
"""Keys of examples that belong into a Snakemake profile."""
TESTED_ELSEWHERE = (
    "docs/how-to/python-api.md",
    "docs/getting-started/ptychography-in-60-lines.md",
    "docs/explanation/",
    "docs/development/",
)
PYTHON = [
    block
    for path in PAGES
    for block in blocks(path)
    if block.language == "python" and not block.page.startswith(TESTED_ELSEWHERE)
]


def _named(block: Block) -> str:
    return f"{block.page}: {block.body.splitlines()[0]}"


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=_named)
def test_a_configuration_on_a_page_is_valid(block, tmp_path):
    example = yaml.safe_load(block.body)
    if set(example) in OTHER_FILES:
        return
    assert set(example) <= set(Config.model_fields)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(merge(KNOWN, example)))
    load_config(path)


def test_there_are_configurations_and_examples_to_check():
    assert len(CONFIGURATIONS) > 20 and len(PYTHON) > 1


@pytest.mark.parametrize("block", PYTHON, ids=_named)
def test_a_python_example_on_a_page_runs(block, workplace, arrays):
    exec(block.body, dict(arrays))
