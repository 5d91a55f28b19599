"""Adapters of a model compute what PEFT computes, whatever the rows of a batch ask for."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from kaito.inference.lora import Adapters

# PEFT asks transformers for something by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

TOKENS = torch.arange(30).view(5, 6) * 7 + 20


@pytest.fixture(scope="module")
def attached(tiny: Path) -> tuple[PreTrainedModel, Adapters]:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    return model, Adapters.attach(model, tiny / "adapters", {})


def ours(attached: tuple[PreTrainedModel, Adapters], rows: Sequence[Mapping[str, float]]) -> torch.Tensor:
    model, adapters = attached
    with torch.inference_mode(), adapters.applied(adapters.weights(rows)):
        logits: torch.Tensor = model(TOKENS[: len(rows)]).logits
    return logits


def peft(tiny: Path, strengths: Mapping[str, float], tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    """By PEFT's own exact way to put adapters together."""
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    for name in strengths:
        if isinstance(model, PeftModel):
            model.load_adapter(tiny / "adapters" / name, adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, tiny / "adapters" / name, adapter_name=name)
    model.add_weighted_adapter(list(strengths), list(strengths.values()), "together", combination_type="cat")
    model.set_adapter("together")
    with torch.inference_mode():
        logits: torch.Tensor = model(tokens).logits
    return logits


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("name", ["one", "two"])
def test_one_adapter_at_a_strength_is_pefts(
    attached: tuple[PreTrainedModel, Adapters], tiny: Path, name: str, strength: float
) -> None:
    torch.testing.assert_close(ours(attached, [{name: strength}] * 5), peft(tiny, {name: strength}), rtol=0, atol=1e-5)


def test_several_adapters_in_one_row_are_pefts_cat(attached: tuple[PreTrainedModel, Adapters], tiny: Path) -> None:
    strengths = {"one": 0.8, "two": -0.5}
    torch.testing.assert_close(ours(attached, [strengths] * 5), peft(tiny, strengths), rtol=0, atol=1e-5)


def test_each_row_of_a_batch_has_strengths_of_its_own(attached: tuple[PreTrainedModel, Adapters], tiny: Path) -> None:
    rows: list[dict[str, float]] = [{}, {"one": 1.0}, {"two": 2.0}, {"one": 0.3, "two": 0.7}, {"two": 0.0}]
    base = AutoModelForCausalLM.from_pretrained(tiny / "model")(TOKENS).logits
    expected = [
        peft(tiny, strengths, TOKENS[row : row + 1])[0] if any(strengths.values()) else base[row]
        for row, strengths in enumerate(rows)
    ]
    torch.testing.assert_close(ours(attached, rows), torch.stack(expected), rtol=0, atol=1e-5)


def test_a_batch_of_mixed_adapters_is_pefts_mixed_batch(attached: tuple[PreTrainedModel, Adapters], tiny: Path) -> None:
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny / "model"), tiny / "adapters" / "one", adapter_name="one"
    )
    model.load_adapter(tiny / "adapters" / "two", adapter_name="two")
    with torch.inference_mode():
        theirs = model.eval()(TOKENS, adapter_names=["two", "__base__", "one", "one", "two"]).logits
    rows: list[dict[str, float]] = [{"two": 1}, {}, {"one": 1}, {"one": 1}, {"two": 1}]
    torch.testing.assert_close(ours(attached, rows), theirs, rtol=0, atol=1e-5)


def test_each_token_may_have_strengths_of_its_own(attached: tuple[PreTrainedModel, Adapters]) -> None:
    # Two sequences packed into one row, which see nothing of each other.
    model, adapters = attached
    rows = [{"one": 1.0}, {"two": 0.5}]
    weights = adapters.weights(rows)
    assert weights is not None
    mask = torch.kron(torch.eye(2), torch.tril(torch.ones(6, 6))).bool()[None, None]
    with torch.inference_mode(), adapters.applied(weights.repeat_interleave(6, 0)[None]):
        packed = model(TOKENS[:2].view(1, 12), attention_mask=mask, position_ids=torch.arange(6).repeat(2)[None]).logits
    torch.testing.assert_close(packed.view(2, 6, -1), ours(attached, rows), rtol=0, atol=1e-5)


def test_without_strengths_the_model_is_the_base_to_the_bit(
    attached: tuple[PreTrainedModel, Adapters], tiny: Path
) -> None:
    _, adapters = attached
    assert adapters.weights([{}, {"one": 0.0}]) is None
    base = AutoModelForCausalLM.from_pretrained(tiny / "model")(TOKENS).logits
    assert torch.equal(ours(attached, [{}] * 5), base)


def test_strengths_hold_in_their_thread_only_and_end_with_their_block(
    attached: tuple[PreTrainedModel, Adapters],
) -> None:
    model, adapters = attached
    base, other = model(TOKENS).logits, []
    with torch.inference_mode(), adapters.applied(adapters.weights([{"one": 1.0}] * 5)):
        thread = threading.Thread(target=lambda: other.append(model(TOKENS).logits))
        thread.start()
        thread.join()
        assert not torch.equal(model(TOKENS).logits, base)
    assert torch.equal(other[0], base)
    assert torch.equal(model(TOKENS).logits, base)


def test_a_name_that_is_no_adapter_is_a_key_error(attached: tuple[PreTrainedModel, Adapters]) -> None:
    with pytest.raises(KeyError, match="three"):
        attached[1].weights([{"three": 1.0}])


def test_adapters_are_listed_by_name_with_their_start_strength(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    adapters = Adapters.attach(model, tiny / "adapters", {"two": 0.25})
    assert [(each.name, each.strength, each.rank) for each in adapters.all] == [("one", 1.0, 8), ("two", 0.25, 4)]
    assert adapters.all[0].root == tiny / "adapters" / "one"


def test_a_model_without_adapters_stays_as_it_is(tiny: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny / "model")
    before = str(model)
    adapters = Adapters.attach(model, None, {})
    assert adapters.all == ()
    assert adapters.weights([{}]) is None
    with adapters.applied(None):
        assert str(model) == before
