"""From texts and chats to token ids: prompts, rows with completions, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from adaswitch_lib.rollout import Rollout

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

Chat = Sequence[Mapping[str, Any]]  # of messages, as {"role": "user", "content": "…"}

FIXED_DATE = {"date_string": "26 Jul 2024"}  # Llama's template would write today's: another prompt every day


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str | Chat], chat_template_kwargs: dict[str, Any] | None = None
) -> tuple[Tensor, Tensor]:
    """Ids and mask of the prompts, padded on the left, shape [batch prompt].

    Args:
        prompts: texts or chats. A chat template takes a text for a user's message, and ends with its generation prompt.
        chat_template_kwargs: for the template, as {"enable_thinking": False}, {"tools": […]} or {"date_string": "1 May 2025"}.

    Raises:
        TypeError: for a single text or chat.
        ValueError: for a prompt that cannot be encoded; the message has its number.
    """
    _check_tokenizer(tokenizer)
    if isinstance(prompts, str) or any(isinstance(prompt, Mapping) for prompt in prompts):
        raise TypeError("prompts must be a list of texts or of chats, got one of them: put it into a list.")
    encoder = _Encoder(tokenizer, chat_template_kwargs)
    ids = [_numbered(f"prompt {i}", encoder.prompt_ids, prompt) for i, prompt in enumerate(prompts)]
    return _padded(ids, tokenizer.pad_token_id or 0, "left")


def encode_rows(
    rows: Dataset | IterableDataset | Iterable[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> Dataset | IterableDataset | list[dict[str, Any]]:
    """Rows of texts or chats to rows of `prompt_ids`, `completion_ids` and `place`, the row's number. Nothing is padded.

    Args:
        rows: with one of these sets of columns, named as in TRL; others are ignored.
            `prompt` and `completion`: each a text or a chat; the completion is one turn of the assistant.
            `messages`: a chat. If its last turn is the assistant's, that is the completion.
            `prompt` alone: for methods whose policy writes the completions; `completion_ids` is empty.
        chat_template_kwargs: as in `encode_prompts`.

    Returns:
        A `Dataset` of a `Dataset`; of an `IterableDataset` another one, which encodes each row as it comes; of other rows a list.
        A completion is what the chat template writes behind the prompt, up to the end of the turn (`end_of_turn_id`); without a
        template it is the text and one EOS.

    Raises:
        ValueError: for an empty data set, and for a row that cannot be encoded; the message has its number.
    """
    _check_tokenizer(tokenizer)
    encoder = _Encoder(tokenizer, chat_template_kwargs)

    def encode(row: Mapping[str, Any], place: int) -> dict[str, Any]:
        prompt_ids, completion_ids = _numbered(f"row {place}", encoder.row_ids, row)
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "place": place}

    is_of_datasets = hasattr(rows, "select_columns")  # which need not be installed for other rows
    if is_of_datasets and not hasattr(rows, "__len__"):
        return rows.map(encode, with_indices=True).select_columns(["prompt_ids", "completion_ids", "place"])
    encoded = (encode(row, place) for place, row in enumerate(rows))
    encoded = _as_dataset(encoded) if is_of_datasets else list(encoded)
    if len(encoded) == 0:
        raise ValueError("the data set has no rows.")
    return encoded


def _check_tokenizer(tokenizer: Any) -> None:
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise TypeError(
            f"no tokenizer: {tokenizer!r:.60}. It is encode_prompts(tokenizer, prompts), and encode_rows(rows, tokenizer)."
        )


def _as_dataset(rows: Iterable[Mapping[str, Any]]) -> Dataset:
    """Rows as `encode_rows` makes them; ids in lists would take nine times as much memory on the way."""
    import numpy
    from datasets import Dataset

    columns: dict[str, list] = {"prompt_ids": [], "completion_ids": []}
    for row in rows:
        for name, column in columns.items():
            column.append(numpy.array(row[name], dtype=numpy.int32))
    return Dataset.from_dict(columns | {"place": range(len(columns["prompt_ids"]))})


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id by which the chat template ends the assistant's turn, as <|im_end|>; it need not be the EOS. None: there is none."""
    return _Encoder(tokenizer).end_of_turn_id


@dataclass(frozen=True)
class RowCollator:
    """Rows of `encode_rows`, each looked at by `check`, to a `Rollout` of the data."""

    pad_token_id: int
    vocab_size: int | None = None
    check: Callable[[Mapping[str, Any]], None] | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Rollout:
        for row in rows if self.check else ():
            self.check(row)
        prompts = _padded([row["prompt_ids"] for row in rows], self.pad_token_id, "left")
        completions = _padded([row["completion_ids"] for row in rows], self.pad_token_id, "right")
        return Rollout.from_data(*prompts, *completions, vocab_size=self.vocab_size)


class _Encoder:
    def __init__(self, tokenizer: PreTrainedTokenizerBase, template_arguments: dict[str, Any] | None = None):
        self.tokenizer, self.template_arguments = tokenizer, FIXED_DATE | (template_arguments or {})
        self.plain = tokenizer.chat_template is None and not template_arguments  # texts go in as they are

    def prompt_ids(self, prompt: str | Chat) -> list[int]:
        if self.plain and isinstance(prompt, str):
            return self.tokenizer(prompt)["input_ids"]
        return self._tokens(self._render(_chat(prompt, "user"), add_generation_prompt=True))

    def row_ids(self, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        """Ids of the prompt and of the completion; none for a completion that is not there."""
        prompt, completion = prompt_and_completion(row)
        prompt_ids = self.prompt_ids(prompt)
        if completion is None:
            return prompt_ids, []
        if self.plain and isinstance(completion, str):
            return prompt_ids, self._ended(self._tokens(completion))
        prompt, completion = _chat(prompt, "user"), _chat(completion, "assistant")
        if [message.get("role") for message in completion] != ["assistant"]:
            raise ValueError("the completion must be one turn of the assistant: earlier turns belong to the prompt.")
        start, text = self._render(prompt, add_generation_prompt=True), self._render([*prompt, *completion])
        if not text.startswith(start):
            raise ValueError(
                f"the chat template ends the prompt by {start[-20:]!r}, but with the answer it writes {text[-40:]!r} instead: pass "
                "chat_template_kwargs or another template, or leave the completions out."
            )
        ids = self._tokens(text)  # in one piece, since some tokenizers put a space before the first word of a text
        in_one_piece = ids[: len(prompt_ids)] == prompt_ids
        return prompt_ids, self._ended(ids[len(prompt_ids) :] if in_one_piece else self._tokens(text[len(start) :]))

    @cached_property
    def end_of_turn_id(self) -> int | None:
        try:
            text = self._render([*_chat("Hello", "user"), *_chat("Goodbye", "assistant")])
        except ValueError:  # no template, or one for other chats
            return None
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder} - {self.tokenizer.unk_token_id}
        return next((token for token in self._tokens(text.partition("Goodbye")[2]) if token in special), None)

    def _ended(self, ids: list[int]) -> list[int]:
        """Up to the first id that ends a completion; where none does, with an EOS behind."""
        for i, token in enumerate(ids):
            if token in (self.tokenizer.eos_token_id, self.end_of_turn_id):
                return ids[: i + 1]
        if self.tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no EOS token, by which a completion ends: set tokenizer.eos_token.")
        return [*ids, self.tokenizer.eos_token_id]

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _render(self, chat: Chat, **settings: Any) -> str:
        if self.tokenizer.chat_template is None and "chat_template" not in self.template_arguments:
            raise ValueError("the tokenizer has no chat template, which a chat needs: set tokenizer.chat_template, or pass texts.")
        try:
            return self.tokenizer.apply_chat_template(chat, tokenize=False, **settings, **self.template_arguments)
        except Exception as error:  # a template is a program, and raises what it likes
            raise ValueError(f"the tokenizer's chat template cannot write this chat: {error}") from error


def prompt_and_completion(row: Mapping[str, Any]) -> tuple[str | Chat, str | Chat | None]:
    if not isinstance(row, Mapping):
        raise ValueError(f"a row must be a dict, got {row!r:.60}; of a DatasetDict choose one split, as rows['train'].")
    prompt, completion, chat = (row.get(name) for name in ("prompt", "completion", "messages"))
    if chat is not None and (prompt is None or completion is None):
        *earlier, last = _chat(chat, "user")
        return (earlier, [last]) if last.get("role") == "assistant" else (chat, None)
    if prompt is None:
        raise ValueError(f"no prompt among {', '.join(row)}: name the columns prompt and completion, or messages, or prompt alone.")
    return prompt, completion


def _chat(value: str | Chat, role: str) -> Chat:
    """A text as a message of that role; a chat without the keys that a table of messages fills up with None."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    messages = list(value) if isinstance(value, Iterable) else []
    if not messages or not all(isinstance(message, Mapping) for message in messages):
        raise ValueError(f"neither a text nor a list of messages, as {{'role': 'user', 'content': 'Hello'}}: {value!r:.60}")
    return [{key: part for key, part in message.items() if part is not None} for message in messages]


def _numbered(name: str, encode: Callable[[Any], Any], value: Any) -> Any:
    try:
        return encode(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _padded(rows: Sequence[Sequence[int]], value: int, side: str) -> tuple[Tensor, Tensor]:
    ids = [torch.as_tensor(row, dtype=torch.long) for row in rows]
    padded = pad_sequence(ids, batch_first=True, padding_value=value, padding_side=side)
    return padded, pad_sequence([torch.ones_like(row) for row in ids], batch_first=True, padding_side=side)
