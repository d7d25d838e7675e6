"""The window of released ptychodus, off screen, as a picture: ``python window.py DIRECTORY PRODUCT.h5 OUTDIR``.

Says on stdout which reconstructors it lists. ``object.png`` shows the product, ``processing.png`` our engine's panels.
"""

import sys
from pathlib import Path

from ptychodus.controller import ControllerCore
from ptychodus.model import ModelCore
from ptychodus.view import ViewCore
from PyQt5.QtCore import QItemSelectionModel
from PyQt5.QtWidgets import QApplication


def main(directory: Path, product: Path, pictures: Path) -> None:
    with ModelCore(directory / "settings.ini") as model:
        print(*model.workflow_api.available_reconstructors(), sep="\n")
        app = QApplication(["ptychodus"])
        view = ViewCore()
        controller = ControllerCore(model, view)
        diffraction = model.workflow_api.load_assembled_diffraction_data(directory / "diffraction.h5")
        model.workflow_api.load_product(product, file_type="HDF5", diffraction=diffraction)
        controller.show_main_window("ptychodus with ptychoflow's engine")
        view.resize(1400, 800)
        for name, action in {"object": view.object_action, "processing": view.processing_action}.items():
            action.trigger()
            if name == "object":
                tree = view.object_view.tree_view
                last = tree.model().index(tree.model().rowCount() - 1, 0)
                tree.selectionModel().setCurrentIndex(last, QItemSelectionModel.ClearAndSelect)
            for _ in range(20):
                app.processEvents()
            view.grab().save(str(pictures / f"{name}.png"))
        view.close()


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
