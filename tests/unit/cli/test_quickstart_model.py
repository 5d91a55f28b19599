"""Which model the quickstart serves, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kaito.cli.quickstart import model as models
from kaito.cli.quickstart.errors import QuickstartError
from kaito.cli.quickstart.model import (
    ADAPTER_PRESET,
    HERE,
    INSTANCE_TYPE,
    PRESET,
    REAL_PHI_3,
    SMALL_MODEL,
    choose,
    tiny,
)
from kaito.sizing import size
from tests.operating.fake_hub import LLAMA, FakeHub, answer


async def test_without_a_hub_a_tiny_model_stands_in_and_says_so(tmp_path: Path) -> None:
    hub = FakeHub()
    hub.down = True
    chosen = await choose(None, tmp_path, hub.hub(), "")
    assert chosen.is_tiny
    assert "cannot be reached" in chosen.notes[0]
    assert "gibberish" in chosen.notes[1]
    for name in (PRESET, ADAPTER_PRESET):
        assert chosen.folders[chosen.catalog().model(name).huggingface_id] == tmp_path / "model"


async def test_a_hub_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "HUB_TIMEOUT_S", 0.01)
    hub = FakeHub()
    hub.has(SMALL_MODEL)
    hub.delay_s = 60
    chosen = await choose(None, tmp_path, hub.hub(), "")
    assert chosen.is_tiny
    assert "did not answer" in chosen.notes[0]


async def test_with_a_hub_a_small_real_model_stands_in_and_the_way_to_the_real_one_is_told(tmp_path: Path) -> None:
    hub = FakeHub()
    hub.has(SMALL_MODEL, gib=0.25)
    chosen = await choose(None, tmp_path, hub.hub(), "")
    preset = chosen.catalog().model(PRESET)
    assert (preset.huggingface_id, preset.weights_gib) == (SMALL_MODEL, 0.25)
    assert preset.min_total_gpu_memory_gib is None
    assert any(f"kaito quickstart --model {REAL_PHI_3}" in note for note in chosen.notes)


async def test_a_model_that_is_asked_for_has_the_sizes_that_the_hub_tells(tmp_path: Path) -> None:
    hub = FakeHub()
    hub.has("org/own-model", gib=2.0)
    chosen = await choose("org/own-model", tmp_path, hub.hub(), "")
    assert chosen.catalog().model(PRESET).weights_gib == 2.0
    assert chosen.folders == {}


async def test_a_model_that_the_manifests_instance_type_does_not_fit_gets_one_that_the_operator_accepts(
    tmp_path: Path,
) -> None:
    hub = FakeHub()
    hub.has(SMALL_MODEL, gib=0.25)
    hub.has("org/half", {**LLAMA, "torch_dtype": "float16"}, gib=0.25)
    hub.has("org/huge", gib=2000)
    in_bfloat16, in_float16 = [await choose(name, tmp_path, hub.hub(), "") for name in (None, "org/half")]
    assert in_float16.instance_type == INSTANCE_TYPE
    catalog = in_bfloat16.catalog()
    sku, preset = catalog.sku(in_bfloat16.instance_type), catalog.model(PRESET)
    assert size(preset, sku, runtime="transformers", catalog=catalog).nodes == 1
    assert any(sku.name in note for note in in_bfloat16.notes)
    with pytest.raises(QuickstartError, match="fit no instance type"):
        await choose("org/huge", tmp_path, hub.hub(), "")


async def test_a_model_of_the_catalogue_keeps_its_own_preset(tmp_path: Path) -> None:
    hub = FakeHub()
    hub.has("microsoft/phi-4")
    chosen = await choose("microsoft/phi-4", tmp_path, hub.hub(), "")
    assert chosen.preset == "phi-4"
    assert chosen.catalog().model(PRESET).huggingface_id == REAL_PHI_3


async def test_a_gated_model_is_refused_with_the_way_to_a_token(tmp_path: Path) -> None:
    hub = FakeHub()
    hub.says("/api/models/org/gated/tree/", answer(401))
    with pytest.raises(QuickstartError, match="not open to everybody") as refused:
        await choose("org/gated", tmp_path, hub.hub(advice=HERE), "")
    assert "export HF_TOKEN" in str(refused.value)
    assert "Secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("org/nowhere", "no public model"),
        ("nowhere", "neither a folder nor a Hugging Face id"),
        ("org/quantised", "only vLLM runs it"),
    ],
)
async def test_a_model_that_cannot_be_had_is_told(tmp_path: Path, wanted: str, told: str) -> None:
    hub = FakeHub()
    quantised = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_size": 64,
        "max_position_embeddings": 128,
        "quantization_config": {"quant_method": "awq"},
    }
    hub.has("org/quantised", quantised)
    with pytest.raises(QuickstartError, match=told):
        await choose(wanted, tmp_path, hub.hub(), "")


async def test_a_hub_that_cannot_be_reached_is_told_of_the_model_that_was_asked_for(tmp_path: Path) -> None:
    hub = FakeHub()
    hub.down = True
    with pytest.raises(QuickstartError, match=r"^(?!.*cluster).*HF_ENDPOINT"):
        await choose("org/any", tmp_path, hub.hub(advice=HERE), "")


async def test_a_folder_with_a_model_is_served_from_there(tmp_path: Path) -> None:
    folder = tmp_path / "My model!"
    folder.mkdir()
    config = {"architectures": ["Phi3ForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"hidden_size": 64, "max_position_embeddings": 128}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"0" * 1000)
    chosen = await choose(str(folder), tmp_path, FakeHub().hub(), "")
    assert chosen.folders == {chosen.catalog().model(PRESET).huggingface_id: folder}


def test_the_tiny_model_fits_the_instance_type_of_the_manifests(tmp_path: Path) -> None:
    assert tiny(tmp_path).catalog().model(PRESET).weights_gib < 1
