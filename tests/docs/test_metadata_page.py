"""The page of metadata fields names every field of the products of a small run."""

import json
import re

import h5py
import pytest

from .conftest import ROOT

PAGE = set(re.findall(r"`([\w/]+)(?:/\.\.\.)?`", (ROOT / "docs/reference/metadata.md").read_text()))


def test_fields_of_a_dataset(checkout):
    manifest = json.loads((checkout / "results/datasets/star/manifest.json").read_text())
    assert {*manifest, *manifest["metadata"], *manifest["provenance"]} <= PAGE
    assert manifest["metadata"] and set(manifest["provenance"]) == {"ptychoflow", "config", "inputs"}


@pytest.mark.parametrize("product", ["reconstructions/pinn/star.h5", "refined/pinn/star.h5", "refined/rpie/star.h5"])
def test_fields_of_a_reconstruction(checkout, product):
    with h5py.File(checkout / "results" / product) as file:
        group = file["ptychoflow"]
        metadata = json.loads(group.attrs["metadata"])
        assert {*group, *group.attrs, *metadata} <= PAGE
        assert metadata["provenance"]["inputs"]["dataset"]["name"] == "star"
