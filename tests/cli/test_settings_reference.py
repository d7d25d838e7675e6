"""The descriptions in the repository say what the code does."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from ptychoflow.cli.main import main
from ptychoflow.cli.settings_reference import reference, schema

FOLDER = Path(__file__).parents[2] / "config"
CONFIGS = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize(
    ("write", "name"), [(schema, "config/config.schema.json"), (reference, "docs/reference/settings.md")]
)
def test_the_files_in_the_repository_are_what_the_code_writes(tmp_path, write, name):
    written = tmp_path / Path(name).name
    write(written)
    kept = (FOLDER.parent / name).read_text()
    assert kept == written.read_text(), f"run: ptychoflow config {write.__name__} {name}"


@pytest.mark.parametrize("name", ["schema", "reference"])
def test_an_output_of_another_kind_is_refused(tmp_path, capsys, name):
    assert main(["config", name, str(tmp_path / "settings.txt")]) == 2
    assert "expected a name that ends in ." in capsys.readouterr().err


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_json_schema_accepts_every_config_we_ship(path):
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads((FOLDER / "config.schema.json").read_text()))


def test_the_json_schema_refuses_an_unknown_key():
    config = yaml.safe_load((FOLDER / "config.yaml").read_text()) | {"trainning": {}}
    with pytest.raises(jsonschema.ValidationError, match="trainning"):
        jsonschema.validate(config, json.loads((FOLDER / "config.schema.json").read_text()))


def test_every_setting_is_described():
    schema = json.loads((FOLDER / "config.schema.json").read_text())
    for title, section in schema["$defs"].items():
        undescribed = [name for name, field in section["properties"].items() if not field.get("description")]
        assert not undescribed, f"{title}: {undescribed}"
