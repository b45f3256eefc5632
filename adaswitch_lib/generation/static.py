"""Writing from buffers that stay where they are, so that a GPU replays a model's passes as captured graphs.

A pass over one token a row is hundreds of small kernels, and launching them takes a GPU longer than running them; a graph
launches all at once, but reads and writes fixed addresses. So each row has a slot in one buffer. Its tokens begin at the
left; cutting some off lowers its length, and leaving or joining others copies nothing. Rows that have left hold their
slots, until those that still write fit into half of them: then slots are swapped, and a smaller graph takes over.
On a CPU the same passes run uncaptured, on as many slots as there are rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from adaswitch_lib.generation.decoder import Decoder, cache_argument, no_router_logits

_buffers: ContextVar[dict[object, Slots] | None] = ContextVar("buffers", default=None)


@contextmanager
def static_decoding() -> Iterator[None]:
    """Within it `generate` writes from static buffers, on a GPU by captured graphs; `with static_decoding(): trainer.train()`.

    Texts are the same, up to rounding. Buffers and graphs are kept to the end of the context, for all calls of `generate` on
    models whose weights stay where they are. Under autocast nothing is captured.
    """
    token = _buffers.set({})
    try:
        yield
    finally:
        _buffers.reset(token)


def is_static() -> bool:
    """Whether we are within `static_decoding`."""
    return _buffers.get() is not None


def new_decoder(who: object, model: PreTrainedModel, vocab_size: int, prompt_mask: Tensor, more: int) -> Decoder | StaticDecoder:
    """A decoder that has been fed nothing; a static one within `static_decoding`.

    Args:
        who: which of the models that write together it is.
        prompt_mask: shape [rows prompt].
        more: tokens that a row may be fed behind its prompt.
    """
    buffers = _buffers.get()
    if buffers is None:
        return Decoder(model, vocab_size, prompt_mask[:, :0], prompt_mask.shape[1])
    rows, width = prompt_mask.shape
    slots = buffers.get(who)
    if slots is None or not slots.fit(model, vocab_size, rows, width + more):
        slots = buffers[who] = Slots(model, vocab_size, rows, width + more, prompt_mask.device)
    slots.clear()
    return StaticDecoder(slots, list(range(rows)), width)


class StaticDecoder:
    """`Decoder` with rows in slots. `select` cuts in place: only the selection goes on with these rows."""

    def __init__(self, slots: Slots, rows: list[int], unseen: int):
        self.slots = slots
        self.rows = rows
        self.unseen = unseen

    @property
    def whole_blocks(self) -> bool:
        """As in `Decoder`."""
        return self.slots.in_graphs

    def feed(self, ids: Tensor, mask: Tensor, keep: int) -> Tensor:
        """As in `Decoder`."""
        self.unseen = 1
        return self.slots.feed(self.rows, ids, mask, keep)

    def select(self, rows: Tensor, drop: Tensor | None = None) -> StaticDecoder:
        """As in `Decoder`, but that the rows are no copies."""
        chosen = [self.rows[row] for row in rows.tolist()]
        if drop is not None:
            self.slots.length[self.slots.of(chosen)] -= drop
        return StaticDecoder(self.slots, chosen, self.unseen)

    @staticmethod
    def join(decoders: Sequence[StaticDecoder]) -> StaticDecoder:
        """As in `Decoder`."""
        return StaticDecoder(decoders[0].slots, sum((decoder.rows for decoder in decoders), []), decoders[0].unseen)


class Slots:
    """What a model remembers of a batch: keys and values of each layer, shape [slots capacity heads width].

    Attributes:
        length: columns that a slot's row has been fed, shape [slots]; behind them may stand anything.
        padding: how many of them come before the row's first token, shape [slots].
        row_in: the row in each slot.
    """

    def __init__(self, model: PreTrainedModel, vocab_size: int, rows: int, capacity: int, device: torch.device):
        config = model.config.get_text_config(decoder=True)
        for name in ("sliding_window", "attention_chunk_size"):
            if (window := getattr(config, name, None)) and window < capacity:
                raise ValueError(f"static decoding knows no {name}, of {window} tokens here: write texts without static_decoding.")
        limit = getattr(config, "max_position_embeddings", None)
        self.model, self.vocab_size = model, vocab_size
        self.last_position = limit and limit - 1
        self.wants_bool = config._attn_implementation == "sdpa"
        self.cache_name = cache_argument(model)
        self.more = {"use_cache": True} | no_router_logits(model)
        self.cache = Cache(layer_class_to_replicate=partial(_Layer, self))
        self.length, self.padding = (torch.zeros(rows, dtype=torch.long, device=device) for _ in range(2))
        self.autocast = torch.is_autocast_enabled(device.type)
        on_one = {weight.device for weight in model.parameters()} == {device}
        # autocast would have a graph read copies of weights that training then changes
        self.captures = device.type == "cuda" and on_one and not self.autocast
        # a GPU's attention wants even widths, and a longer prompt then often finds graphs that are there
        self.capacity = 64 * math.ceil(capacity / 64) if self.captures else capacity
        self.graphs: dict[tuple[int, int], tuple] = {}
        self.pool = torch.cuda.graph_pool_handle() if self.captures else None
        self.clear()

    def fit(self, model: PreTrainedModel, vocab_size: int, rows: int, capacity: int) -> bool:
        """Whether a call of `generate` can use these buffers and graphs again."""
        same = model is self.model and vocab_size == self.vocab_size
        same = same and self.autocast == torch.is_autocast_enabled(self.length.device.type)
        return same and rows <= len(self.length) and capacity <= self.capacity

    def clear(self) -> None:
        """Forget all rows. What is left in the buffers would do no harm unless it were NaN."""
        for buffer in (self.length, self.padding, *self._keys_and_values()):
            buffer.zero_()
        self.row_in = list(range(len(self.length)))
        self.placed: tuple[list[int], Tensor | slice] | None = None

    @property
    def in_graphs(self) -> bool:
        """Whether passes come in few shapes, which have a graph each, and nothing is asked of the device within a block."""
        return self.captures

    def of(self, rows: list[int]) -> Tensor:
        """The slots of rows, shape [rows]."""
        return torch.tensor([self.row_in.index(row) for row in rows], device=self.length.device)

    def feed(self, rows: list[int], ids: Tensor, mask: Tensor, keep: int) -> Tensor:
        used = self._slots_for(len(rows))
        if self.placed is None or self.placed[0] is not rows:
            self._pack(rows, used)
            in_order = self.row_in[:used] == rows
            self.placed = rows, slice(used) if in_order else self.of(rows)
        slots = self.placed[1]
        inputs = ids.new_zeros(used, ids.shape[1])
        inputs[slots] = ids
        self.padding[slots] += (mask == 0).sum(-1)
        if self.captures and keep == ids.shape[1]:  # prompts come once a text, and in many lengths
            logits = self._replay(inputs)
        else:
            logits = self._pass(inputs, keep, int(self.length[:used].max()) + ids.shape[1])
        self.length[slots] += ids.shape[1]
        return logits[slots]

    def _pass(self, ids: Tensor, keep: int, width: int) -> Tensor:
        """Logits after the last `keep` of the new tokens of the first slots; nobody looks at those of slots that are idle."""
        length, padding = self.length[: len(ids), None], self.padding[: len(ids), None]
        self.width = min(width, self.capacity)
        columns = (length + torch.arange(ids.shape[1], device=ids.device)).clamp(max=self.capacity - 1)
        self.place = torch.arange(len(ids), device=ids.device)[:, None], columns
        column, own = torch.arange(self.width, device=ids.device), columns[..., None]
        # padding sees itself, since of nothing there is no mean
        seen = ((column <= own) & (column >= padding[..., None]) | (column == own))[:, None]
        if not self.wants_bool:
            seen = torch.zeros_like(seen, dtype=self.model.dtype).masked_fill(~seen, torch.finfo(self.model.dtype).min)
        output = self.model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=(columns - padding).clamp(min=0, max=self.last_position),
            logits_to_keep=keep,
            **{self.cache_name: self.cache} | self.more,
        )
        return output.logits[:, -keep:, : self.vocab_size].to(ids.device)

    def _replay(self, ids: Tensor) -> Tensor:
        """The pass as a graph that was captured when first asked for: one for each number of slots and of tokens."""
        if tuple(ids.shape) not in self.graphs:
            inputs, keep, graph, stream = ids.clone(), ids.shape[1], torch.cuda.CUDAGraph(), torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._pass(inputs, keep, self.capacity)  # what libraries do on first use cannot be captured
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                logits = self._pass(inputs, keep, self.capacity)
            self.graphs[tuple(ids.shape)] = graph, inputs, logits
        graph, inputs, logits = self.graphs[tuple(ids.shape)]
        inputs.copy_(ids)
        graph.replay()
        return logits.clone()

    def _slots_for(self, rows: int) -> int:
        """How many slots a pass goes over: to a GPU fewer than 8 rows are as much work as 8."""
        return min(max(8, 1 << (rows - 1).bit_length()) if self.in_graphs else rows, len(self.length))

    def _pack(self, rows: list[int], used: int) -> None:
        """Swap rows into the first slots."""
        kept = set(rows)
        away = [slot for slot, row in enumerate(self.row_in) if row in kept and slot >= used]
        free = [slot for slot, row in enumerate(self.row_in[:used]) if row not in kept][: len(away)]
        if not away:
            return
        to, source = (torch.tensor(slots, device=self.length.device) for slots in (away + free, free + away))
        for buffer in (self.length, self.padding, *self._keys_and_values()):
            buffer[to] = buffer[source]
        for here, there in zip(away, free, strict=True):
            self.row_in[here], self.row_in[there] = self.row_in[there], self.row_in[here]

    def _keys_and_values(self) -> list[Tensor]:
        return [buffer for layer in self.cache.layers for buffer in (layer.keys, layer.values)]


class _Layer(DynamicLayer):
    """Keys and values of all slots."""

    def __init__(self, slots: Slots):
        super().__init__()
        self.slots = slots

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        slots, used = self.slots, key_states.shape[0]
        if not self.is_initialized:
            self.keys, self.values = (
                new.new_zeros(len(slots.length), slots.capacity, new.shape[1], new.shape[3]) for new in (key_states, value_states)
            )
            self.is_initialized = True
        place = tuple(index.to(key_states.device) for index in slots.place)
        self.keys[place] = key_states.transpose(1, 2)
        self.values[place] = value_states.transpose(1, 2)
        return tuple(buffer[:used, : slots.width].transpose(1, 2) for buffer in (self.keys, self.values))

    def get_seq_length(self) -> int:
        return 0
