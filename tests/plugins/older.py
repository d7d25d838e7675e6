"""Whether an older ptychodus, first on the path, opens a product: its version, and if object and probe are right."""

import sys
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np


def load(path: Path):
    """The product, by the function of 1.3 and later or by the plugin of earlier versions."""
    try:
        from ptychodus.api.io import load_product
    except ImportError:
        from ptychodus.api.plugins import PluginRegistry

        readers = PluginRegistry.load_plugins().product_file_readers
        readers.set_current_plugin("HDF5")
        return readers.get_current_plugin().strategy.read(path)
    return load_product(path)


if __name__ == "__main__":
    product = load(Path(sys.argv[1]))
    probe = getattr(product, "probes", None) or product.probe
    with h5py.File(sys.argv[1]) as file:
        same = [
            np.array_equal(found.get_array(), file[name])
            for name, found in {"object": product.object_, "probe": probe}.items()
        ]
    print(version("ptychodus"), *same)
