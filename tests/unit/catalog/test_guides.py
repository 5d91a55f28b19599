"""What docs/catalogue.md and docs/sizing.md say by example is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kaito.catalog import Catalog
from kaito.cli.app import app
from kaito.sizing import size, size_tuning

DOCS = Path(__file__).parents[3] / "docs"
CATALOG = Catalog.load()


def test_the_file_of_the_guide_loads_and_its_entries_are_sized() -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", (DOCS / "catalogue.md").read_text(), re.DOTALL)
    catalog = Catalog.load(overlays=[("docs/catalogue.md", example)])
    assert [sku.name for cloud in ("gcp", "onprem") for sku in catalog.skus_of(cloud)] == ["a2-ultragpu-2g", "rack-b"]
    assert size(catalog.model("our-model"), catalog.sku("rack-b"), catalog=catalog).nodes == 1
    assert catalog.model("phi-4").disk_gib == 200


@pytest.mark.parametrize("guide", ["catalogue.md", "sizing.md"])
def test_the_commands_of_a_guide_run(guide: str) -> None:
    commands = re.findall(r"^kaito (.*?)(?: +#.*)?$", (DOCS / guide).read_text(), re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        assert CliRunner().invoke(app, command.split()).exit_code == 0, command


def test_the_examples_of_the_sizing_guide_are_what_is_computed() -> None:
    phi = CATALOG.model("phi-3-mini-4k-instruct")
    served = size(phi, CATALOG.sku("Standard_NC24ads_A100_v4"))
    tuned = size_tuning(phi, CATALOG.sku("Standard_NC6s_v3"), "qlora")
    said = (DOCS / "sizing.md").read_text()
    assert f"{served.needed_gib:.2f}" == "10.68"
    assert f"+ 3.05 = {served.needed_gib:.2f}." in said
    assert f"{tuned.needed_gib:.2f} of {tuned.available_gib:.1f} GiB" in said
