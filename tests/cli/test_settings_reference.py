"""The descriptions in the repository say what the code does."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from ptychoflow.cli.settings_reference import reference, schema

FOLDER = Path(__file__).parents[2] / "config"
CONFIGS = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", ["config/config.schema.json", "docs/reference/settings.md"])
def test_what_stands_in_the_repository_is_what_the_code_writes(tmp_path, name):
    kept, written = FOLDER.parent / name, tmp_path / Path(name).name
    settings(written)
    assert kept.read_text() == written.read_text(), f"run: ptychoflow config reference or schema {name}"


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
