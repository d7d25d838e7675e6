"""What the released ptychodus makes of our files. Runs in an environment of its own: ``python referee.py FOLDER``.

FOLDER holds ``product.h5``, ``product.npz``, ``product.cxi`` and a standard directory ``standard``. Each product is
read with ptychodus's reader and written again with its writer, to ``again``; what was read is in ``read/*.npz``.
"""

import sys
from pathlib import Path

import numpy as np
from ptychodus.api.io import load_diffraction_data, load_product, save_product
from ptychodus.api.object import compute_object_geometry
from ptychodus.api.plugins import PluginRegistry
from ptychodus.api.probe import ProbeGeometry
from ptychodus.api.reconstruct import prepare_reconstruct_input

FORMS = {"npz": "NPZ", "cxi": "CXI"}


def main(folder: Path) -> None:
    registry = PluginRegistry.load_plugins()
    for place in ("read", "again"):
        (folder / place).mkdir()
    product = load_product(folder / "product.h5")
    save_product(folder / "again" / "product.h5", product)
    np.savez(folder / "read" / "h5.npz", **product_arrays(product), **geometry(product))
    for suffix, name in FORMS.items():
        read = registry.product_file_readers.get_strategy_by_name(name).read(folder / f"product.{suffix}")
        registry.product_file_writers.get_strategy_by_name(name).write(folder / "again" / f"product.{suffix}", read)
        np.savez(folder / "read" / f"{suffix}.npz", **product_arrays(read))
    data = load_diffraction_data(folder / "standard" / "diffraction.h5")
    paired = prepare_reconstruct_input(data, load_product(folder / "standard" / "product.h5"))
    np.savez(
        folder / "read" / "standard.npz",
        patterns=paired.diffraction_patterns,
        bad_pixels=paired.bad_pixels,
        detector_pixel_m=data.get_pixel_geometry().width_m,
        **product_arrays(paired.product),
    )


def product_arrays(product) -> dict:
    """Arrays and numbers of a product."""
    positions, metadata, image = product.probe_positions, product.metadata, product.object_
    return {
        "probe": product.probes.get_array(),
        "object": image.get_array(),
        "indexes": positions.get_indexes(),
        "y_m": positions.get_coordinates_y_m(),
        "x_m": positions.get_coordinates_x_m(),
        "pixel_m": image.get_pixel_geometry().width_m,
        "probe_pixel_m": product.probes.get_pixel_geometry().width_m,
        "centre_m": [image.get_center().y_m, image.get_center().x_m],
        "energy_ev": metadata.photon_energy_eV,
        "distance_m": metadata.detector_distance_m,
        "photons": metadata.probe_photon_count,
        "name": metadata.name,
        "losses": [(loss.epoch, loss.value) for loss in product.losses],
    }


def geometry(product) -> dict:
    """Where ptychodus cuts the patch of each position out of the object, and the canvas that it would choose."""
    image, probe = product.object_.get_geometry(), product.probes.get_array()
    y = image.map_probe_positions_to_object_y_px(product.probe_positions)
    x = image.map_probe_positions_to_object_x_px(product.probe_positions)
    size, pixel = probe.shape[-1], image.pixel_width_m
    frame = ProbeGeometry(width_px=size, height_px=size, pixel_width_m=pixel, pixel_height_m=pixel)
    bounds = [frame.resolve_patch_bounds(a, b) for a, b in zip(x, y)]
    chosen = compute_object_geometry(product.probe_positions, frame)
    return {
        "first": [(bound.y_slice.start, bound.x_slice.start) for bound in bounds],
        "rest": [(bound.dy, bound.dx) for bound in bounds],
        "chosen_shape": (chosen.height_px, chosen.width_px),
        "chosen_centre_m": (chosen.center_y_m, chosen.center_x_m),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
