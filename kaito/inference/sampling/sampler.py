"""The sampler of the engine."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from kaito.inference.errors import BadRequest, RequestError
from kaito.inference.requests import TokenLogprob
from kaito.inference.sampling.batch import Batch, Group, Row
from kaito.inference.sampling.cuts import Cuts, Drawn, draw_all, draw_top
from kaito.inference.sampling.penalties import Penalties
from kaito.inference.sampling.rules import Rules

if TYPE_CHECKING:
    from kaito.inference.engine.tokens import TokenRequest


@dataclass(frozen=True, slots=True)
class Chosen:
    """A row's next token.

    Attributes:
        token: its id; of no meaning beside an error.
        logprob: if asked for.
        error: why this row cannot go on, though the others can.
    """

    token: int
    logprob: TokenLogprob | None = None
    error: RequestError | None = None


class Sampler:
    """Keeps what the rules of each row need: its tokens so far, its generator. Used by one thread.

    The order of rules is transformers': bias, penalties (repetition, then presence and frequency as OpenAI defines
    them), what must not come, temperature, top_k, top_p, min_p, typical_p. Unlike there, tokens exactly as likely as
    the last one within top_p stay as well: which of them is counted first would be chance.

    A row with a seed draws the same numbers whatever runs beside it. They come from Python's generator, which takes
    in all bits of a seed and is promised to stay as it is.
    """

    def __init__(self, vocab_size: int, device: torch.device | str = "cpu") -> None:
        self._vocab_size = vocab_size
        self._device = torch.device(device)
        self._rows: dict[int, Row] = {}
        self._penalties = Penalties(vocab_size, self._device)
        self._batch: Batch | None = None

    @torch.inference_mode()
    def add(self, row: int, request: TokenRequest) -> None:
        """A request gets a row; whoever had it before is forgotten."""
        self._batch = None
        # Python takes a seed's absolute value: -1 and 1 would be one.
        seed = request.sampling.seed
        numbers = random.Random(None if seed is None else seed % 2**64)
        rules = Rules.of(request, self._vocab_size, self._device)
        self._rows[row] = Row(request.sampling, request.logprobs, numbers, rules)
        self._penalties.add(row, request.prompt, request.sampling)

    @torch.inference_mode()
    def remove(self, row: int) -> None:
        """A row is free."""
        self._batch = None
        self._rows.pop(row, None)
        self._penalties.remove(row)

    @torch.inference_mode()
    def choose(self, rows: Sequence[int], logits: torch.Tensor) -> list[Chosen]:
        """The next token of some rows.

        Args:
            rows: which.
            logits: of their last positions, shape [len(rows), vocab_size], any float dtype.
        """
        batch = self._batch
        if batch is None or batch.rows != tuple(rows):
            batch = self._batch = Batch(rows, [self._rows[row] for row in rows], self._vocab_size, self._device)
        scores = self._scores(batch, logits)
        numbers = [row.next_number() for row in batch.states]
        tokens, best, unsure = _draw(batch, scores, numbers)
        logprobs = _logprobs(batch, logits, tokens)
        # All that the host needs, in one transfer; ids are exact in float32 up to 2**24.
        answers = torch.cat([tokens.float(), best.float(), unsure, *logprobs]).tolist()
        chosen = _read(batch, answers)
        again = [at for at, unsure in enumerate(answers[2 * len(rows) : 3 * len(rows)]) if unsure]
        if again := [at for at in again if chosen[at].error is None]:
            self._draw_again(batch, again, scores, logits, numbers, chosen)
        for row, state, each in zip(batch.rows, batch.states, chosen, strict=True):
            if each.error is None:
                state.number = None
                self._penalties.push(row, each.token)
                if state.rules is not None:
                    state.rules.push(each.token)
        return chosen

    def _draw_again(
        self,
        batch: Batch,
        positions: Sequence[int],
        scores: torch.Tensor,
        logits: torch.Tensor,
        numbers: Sequence[float],
        chosen: list[Chosen],
    ) -> None:
        """Draws for some rows with all of their tokens looked at, and has more looked at in the next step."""
        self._batch = None
        index = torch.tensor(positions).to(scores.device, non_blocking=True)
        cuts = Cuts.of([batch.states[position].sampling for position in positions], self._vocab_size, self._device)
        uniform = torch.tensor([[numbers[position]] for position in positions]).to(scores.device, non_blocking=True)
        tokens = draw_all(scores[index], cuts, uniform).token
        logprobs = logits[index].float().log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        for position, token, value in zip(positions, tokens.tolist(), logprobs.tolist(), strict=True):
            batch.states[position].misses += 1
            before = chosen[position].logprob
            chosen[position] = Chosen(token, before and TokenLogprob(token, value, before.top))

    def _scores(self, batch: Batch, logits: torch.Tensor) -> torch.Tensor:
        """The logits after all that changes them; the logits themselves if nothing does."""
        if batch.factors is None and not batch.ruled:
            return logits.float() if batch.groups else logits
        # One column more, for what the penalties write for nothing.
        wide = torch.empty((len(batch.rows), self._vocab_size + 1), device=logits.device)
        scores = wide[:, : self._vocab_size]
        scores.copy_(logits)
        rules = [(position, batch.states[position].rules) for position in batch.ruled]
        for position, rule in rules:
            if rule is not None:
                rule.bias(scores[position])
        if batch.factors is not None:
            self._penalties.apply(wide, batch.index, max(batch.rows), batch.factors)
        for position, rule in rules:
            if rule is not None:
                rule.forbid(scores[position])
        return scores


def _draw(
    batch: Batch, scores: torch.Tensor, numbers: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens; the best score of each row; 1 for rows that have to be drawn for again."""
    likeliest = _argmax(scores)
    best = scores.gather(1, likeliest[:, None])[:, 0]
    tokens = likeliest.clone() if batch.groups else likeliest
    unsure = torch.zeros(len(batch.rows), device=scores.device)
    for group in batch.groups:
        drawn = _draw_group(group, scores, numbers)
        index = group.index if group.index is not None else slice(None)
        # Where rounding pointed beside what is kept, the likeliest token stands in.
        tokens[index] = torch.where(drawn.weight > 0, drawn.token, likeliest[index])
        if drawn.certain is not None:
            unsure[index] = (~drawn.certain).float()
    return tokens, best, unsure


def _draw_group(group: Group, scores: torch.Tensor, numbers: Sequence[float]) -> Drawn:
    own = scores if group.index is None else scores[group.index]
    uniform = torch.tensor([[numbers[position]] for position in group.positions])
    uniform = uniform.to(scores.device, non_blocking=True)
    if group.width is None:
        return draw_all(own, group.cuts, uniform)
    return draw_top(own, group.cuts, uniform, group.width)


def _argmax(scores: torch.Tensor) -> torch.Tensor:
    if scores.device.type == "cpu":
        # Ten times as fast as torch's on a CPU; not-a-number wins in both, the first of several in both.
        return torch.from_numpy(scores.float().numpy().argmax(-1))
    return scores.argmax(-1)


def _logprobs(batch: Batch, logits: torch.Tensor, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Of the rows that ask: those of their tokens, those of the likeliest ones, the ids of these; each flat."""
    if not batch.logprob_positions:
        return []
    index = batch.logprob_index if batch.logprob_index is not None else slice(None)
    all_of_them = logits[index].float().log_softmax(-1)
    own = all_of_them.gather(1, tokens[index][:, None])[:, 0]
    if not batch.top:
        return [own]
    top = all_of_them.topk(batch.top)
    return [own, top.values.flatten(), top.indices.float().flatten()]


def _read(batch: Batch, answers: Sequence[float]) -> list[Chosen]:
    rows, asking, top = len(batch.rows), len(batch.logprob_positions), batch.top
    logprobs: dict[int, TokenLogprob] = {}
    for place, position in enumerate(batch.logprob_positions):
        first = 3 * rows + asking + place * top
        values, ids = answers[first : first + top], answers[first + asking * top : first + asking * top + top]
        wanted = batch.states[position].logprobs or 0
        likeliest = zip(ids[:wanted], values[:wanted], strict=True)
        # What cannot come at all is not among the likeliest, even if there are no others.
        pairs = tuple((int(token), value) for token, value in likeliest if value > -math.inf)
        logprobs[position] = TokenLogprob(int(answers[position]), answers[3 * rows + place], pairs)
    chosen = []
    for position in range(rows):
        token, best, logprob = int(answers[position]), answers[rows + position], logprobs.get(position)
        error = _error(best if logprob is None or not math.isnan(logprob.logprob) else math.nan, batch.states[position])
        chosen.append(Chosen(token, None if error else logprob, error))
    return chosen


def _error(best: float, state: Row) -> RequestError | None:
    if math.isfinite(best):
        return None
    if best == -math.inf and state.rules is not None:
        return BadRequest(
            "no token may come next: allowed_token_ids, bad_words, no_repeat_ngram_size and min_tokens together "
            "forbid all of them; forbid fewer",
        )
    return RequestError(
        f"the model's scores for the next token are not finite ({best}): its weights are damaged or overflow in this "
        "dtype; other requests are not affected; serve it with --dtype bfloat16 or float32"
    )
