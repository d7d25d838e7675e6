"""The pages of metadata fields and metrics name the fields of the products of a small run."""

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


def test_metrics_of_a_reconstruction_are_on_their_page(checkout):
    page = set(re.findall(r"`(\w+)`", (ROOT / "docs/reference/metrics.md").read_text()))
    measured = json.loads((checkout / "results/metrics/pinn/star.json").read_text())
    named = {"phase_psnr_truth_range", "complex_nrmse", "r_factor", "noise_floor", "raster_artifact_ratio"}
    assert named <= page and named <= _keys(measured)


def _keys(data: object) -> set[str]:
    """Return the keys of nested plain data."""
    if isinstance(data, dict):
        return set(data) | {key for value in data.values() for key in _keys(value)}
    return {key for value in data for key in _keys(value)} if isinstance(data, list) else set()
