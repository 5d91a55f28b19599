"""Figures of models, from files and config.json as hubs have them."""

from __future__ import annotations

import json

import pytest

from kaito.hub.figures import ConfigFigures, HubFile, MissingFigure, config_figures, weight_files

PHI = {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 3072, "max_position_embeddings": 4096}
LLAMA = {**PHI, "hidden_size": 4096, "num_key_value_heads": 8, "max_position_embeddings": 131072}
DEEPSEEK = {"num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "max_position_embeddings": 163840}


@pytest.mark.parametrize(
    ("config", "figures"),
    [
        (PHI, ConfigFigures(4096, "MHA", 393216, None)),
        (LLAMA, ConfigFigures(131072, "GQA", 131072, None)),
        (DEEPSEEK, ConfigFigures(163840, "MLA", 70272, None)),
        ({**PHI, "multi_query": True}, ConfigFigures(4096, "MQA", 12288, None)),
        ({"text_config": PHI, "hidden_size": 1}, ConfigFigures(4096, "MHA", 393216, None)),
        ({**PHI, "quantization_config": {"quant_method": "awq"}}, ConfigFigures(4096, "MHA", 393216, "awq")),
        ({**PHI, "max_position_embeddings": float("inf")}, ConfigFigures(2048, "MHA", 393216, None)),
        (json.loads('{"x": NaN, "n_layer": 2, "n_head": 4, "n_embd": 64}'), ConfigFigures(2048, "MHA", 512, None)),
    ],
    ids=["MHA", "GQA", "MLA", "MQA", "nested", "quantised", "infinite", "old names"],
)
def test_a_config_tells_context_attention_and_cache(config: dict[str, object], figures: ConfigFigures) -> None:
    assert config_figures(config) == figures


def test_without_layers_the_message_names_the_keys_that_were_looked_for() -> None:
    with pytest.raises(MissingFigure, match="none of num_hidden_layers, n_layer"):
        config_figures({"num_hidden_layers": True})


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        ("consolidated.safetensors model-1.safetensors", "consolidated.safetensors"),
        ("model-1.safetensors pytorch_model.bin", "model-1.safetensors"),
        ("pytorch_model.bin training_args.bin", "pytorch_model.bin"),
        ("adapter_model.safetensors model.gguf", ""),
    ],
)
def test_weights_are_taken_in_the_first_form_that_there_is(paths: str, chosen: str) -> None:
    found = weight_files(HubFile(path, 1) for path in paths.split())
    assert " ".join(file.path for file in found) == chosen
