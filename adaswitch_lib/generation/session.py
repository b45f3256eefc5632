"""The rows of one call of `generate` while they are being written.

Writing goes in blocks: one model, the writer, drafts up to `block_size` tokens of every row; the
other scores them in one pass; the divergence at each is recorded; and a policy may have the teacher
take a token, which cuts the row there. A block of 1 is the token-by-token loop of the paper. The
text does not depend on the block size, only the number of passes does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from adaswitch_lib.divergence import divergence_function, resolution
from adaswitch_lib.generation.block import Block, Group
from adaswitch_lib.generation.request import Request
from adaswitch_lib.generation.sampling import disturbed, row_uniforms, sample
from adaswitch_lib.generation.static import new_decoder
from adaswitch_lib.rollout import NonFiniteLogits, Rollout, Source, has_no_distribution

CHUNK_ELEMENTS = 2**19
"""How many logits of each model a divergence is measured on at once."""

GPU_CHUNK_ELEMENTS = 2**25
"""The same on a GPU, where small chunks cost more to launch than to compute; 128 MB a tensor in float32."""

NOISE = 0x9E3779B97F4A7C15
"""Added to a row's seed for what decides of its noise."""

Judge = Callable[["Session", Block], Tensor]
"""Says which tokens of a block the teacher takes: bool, shape [rows new]. The first of a row counts."""


class Session:
    """State of the rows. A row's completion may run past its end in the buffers until it is cut to `length`.

    Attributes:
        length: tokens written, shape [batch].
        source, divergence: as in `Rollout`, shape [batch width].
        switch_index: as in `Rollout`.
        resolution: the divergence below which the two models may differ by rounding alone.
        on_block: called after each block.
        noise: share of each model's tokens that are replaced by a random one.
    """

    def __init__(self, request: Request, divergence: str):
        self.request = request
        self.measure = divergence_function(divergence)
        prompt_mask = request.prompt_mask.bool()
        prompt_ids = request.prompt_ids.long().masked_fill(~prompt_mask, request.pad_token_id)
        batch, self.prompt_width = prompt_ids.shape
        width = request.max_new_tokens + request.block_size
        self.models = {Source.STUDENT: request.student, Source.TEACHER: request.teacher}
        dtypes = [model.dtype for model in self.models.values()]
        if torch.is_autocast_enabled(prompt_ids.device.type):
            dtypes.append(torch.get_autocast_dtype(prompt_ids.device.type))
        self.resolution = max(resolution(divergence, dtype) for dtype in dtypes)
        self.eos_token_ids = request.eos_token_ids
        self.uniforms = row_uniforms(request.row_seeds, width).float().to(prompt_ids.device)  # MPS has no float64
        self.noise = {Source.STUDENT: request.student_noise, Source.TEACHER: 0.0}
        self.ids = torch.cat([prompt_ids, prompt_ids.new_zeros(batch, width)], dim=1)
        self.ids_mask = torch.cat([prompt_mask.long(), prompt_ids.new_ones(batch, width)], dim=1)
        self.length = prompt_ids.new_zeros(batch)
        self.source = prompt_ids.new_full((batch, width), Source.PADDING)
        self.divergence = torch.full((batch, width), torch.nan, dtype=torch.float32, device=prompt_ids.device)
        self.switch_index = prompt_ids.new_full((batch,), -1)
        self.teacher_logits: Tensor | None = None
        self.on_block: Callable[[], None] | None = None

    def start(self) -> Group:
        """All rows, nothing written yet."""
        prompt_mask, vocab_size, more = self.ids_mask[:, : self.prompt_width], self.request.vocab_size, self.source.shape[1]
        return Group(
            torch.arange(len(self.ids), device=self.ids.device),
            {who: new_decoder(who, model, vocab_size, prompt_mask, more) for who, model in self.models.items()},
        )

    def write(self, group: Group | None, writer: Source, judge: Judge | None = None, hand_over: bool = False) -> Group | None:
        """Write rows to their end.

        Where `judge` says so the teacher takes a token: the draft is cut there and the teacher's own
        token put in its place. With `hand_over` the row then leaves, and all that left are returned
        together for the teacher to continue; without, the writer goes on behind that token.
        """
        if judge and not hand_over and self.request.student_ids is not None:
            raise ValueError("student_ids are written to their end: they do for policies that do not give back to the student.")
        left = []
        while group is not None:
            block = self._draft(group, writer, scored=judge is not None)
            taken = judge(self, block) & block.real if judge else torch.zeros_like(block.real)
            offset = taken.long().argmax(-1)
            taken = taken.any(-1)
            written = torch.where(taken, offset + 1, block.real.sum(-1))
            if taken.any():
                self._let_teacher_take(block, taken, offset, hand_over)
            self.length[block.rows] += written
            if self.on_block is not None:
                self.on_block()
            ended = self._ended(block.rows)
            drop = block.tokens.shape[1] - written
            leaves = taken & ~ended & hand_over
            if leaves.any():
                left.append(group.select(leaves, drop, self._needed_to_continue))
            stays = ~ended & ~leaves
            group = group.select(stays, drop, group.decoders) if stays.any() else None
        return self._join(left)

    def real(self) -> Tensor:
        """Which positions of the completions are written, bool, shape [batch width]."""
        return torch.arange(self.source.shape[1], device=self.source.device) < self.length[:, None]

    def rollout(self, threshold: Tensor | None) -> Rollout:
        """What has been written, with the thresholds that the policy held it against, shape [batch width]."""
        width = int(self.length.max())
        real = self.real()[:, :width]
        prompt, completion = self.ids.split([self.prompt_width, self.source.shape[1]], dim=1)
        if threshold is None:
            threshold = torch.full_like(self.divergence, torch.nan)
        if self.teacher_logits is not None:
            self.teacher_logits.masked_fill_(~self.real()[..., None], 0.0)
        return Rollout(
            prompt_ids=prompt,
            prompt_mask=self.ids_mask[:, : self.prompt_width],
            completion_ids=completion[:, :width].masked_fill(~real, self.request.pad_token_id),
            completion_mask=real.long(),
            source=self.source[:, :width].masked_fill(~real, Source.PADDING),
            divergence=self.divergence[:, :width].masked_fill(~real, torch.nan),
            threshold=threshold[:, :width].masked_fill(~real, torch.nan),
            switch_index=self.switch_index,
            teacher_logits=None if self.teacher_logits is None else self.teacher_logits[:, :width],
            vocab_size=self.request.vocab_size,
        )

    def _draft(self, group: Group, writer: Source, scored: bool) -> Block:
        """Draft a block with the writer and, where its scores are wanted, score it with the other model."""
        scorer = Source.TEACHER if writer is Source.STUDENT else Source.STUDENT
        scored = scored or self.request.record_divergence or (self.request.keep_teacher_logits and scorer is Source.TEACHER)
        wanted = scored or (self.request.keep_teacher_logits and writer is Source.TEACHER)
        start = self.length[group.rows]
        whole, size = group.decoders[writer].whole_blocks, self.request.block_size
        if not whole:
            size = min(size, self.request.max_new_tokens - int(start.min()))
        given = self.request.student_ids if writer is Source.STUDENT else None
        if given is None:
            draft, logits = self._sampled(group, writer, start, size, whole, wanted)
        else:
            columns = (start[:, None] + torch.arange(size, device=start.device)).clamp(max=given.shape[1] - 1)
            draft = given[group.rows].gather(1, columns)
            logits = self._scores(group, writer, draft)
        positions = start[:, None] + torch.arange(draft.shape[1], device=draft.device)
        eos = torch.isin(draft, self.eos_token_ids).long()
        block = Block(
            group.rows,
            positions,
            draft,
            real=(eos.cumsum(-1) - eos == 0) & (positions < self.request.max_new_tokens),
            logits={writer: logits} if wanted else {},
        )
        if scored:
            block.logits[scorer] = self._scores(group, scorer, draft)
        self._record(block, writer)
        return block

    def _sampled(
        self, group: Group, writer: Source, start: Tensor, size: int, whole: bool, wanted: bool
    ) -> tuple[Tensor, Tensor | None]:
        """`size` tokens of every row from position `start` on, or up to the ends of all; and the logits they came from."""
        tokens, logits = [], []
        ended, broken = (torch.zeros_like(start, dtype=torch.bool) for _ in range(2))
        ids, mask = self._unseen(group, writer)
        for i in range(size):
            scores = group.decoders[writer].feed(ids, mask, keep=1)[:, 0]
            token, bad = self._tokens(scores, group.rows, start + i, writer)
            tokens.append(token)
            if wanted:
                logits.append(scores)
            broken |= bad
            ended |= torch.isin(token, self.eos_token_ids)
            if not whole and ended.all():
                break
            ids, mask = token[:, None], torch.ones_like(token)[:, None]
        if broken.any():
            raise NonFiniteLogits(writer)
        return torch.stack(tokens, dim=1), torch.stack(logits, dim=1) if wanted else None

    def _scores(self, group: Group, who: Source, draft: Tensor) -> Tensor:
        """This model's logits from which the draft's tokens could have been chosen, in one pass."""
        ids, mask = self._unseen(group, who)
        ids = torch.cat([ids, draft[:, :-1]], dim=1)
        mask = torch.cat([mask, torch.ones_like(draft[:, :-1])], dim=1)
        return group.decoders[who].feed(ids, mask, keep=draft.shape[1])

    def _unseen(self, group: Group, who: Source) -> tuple[Tensor, Tensor]:
        """The tokens at the end of each row that this model has not been fed, and their mask."""
        end = self.prompt_width + self.length[group.rows]
        columns = end[:, None] + torch.arange(-group.decoders[who].unseen, 0, device=end.device)
        return self.ids[group.rows].gather(1, columns), self.ids_mask[group.rows].gather(1, columns)

    def _tokens(self, logits: Tensor, rows: Tensor, positions: Tensor, who: Source) -> tuple[Tensor, Tensor]:
        """What a model writes next, and which rows have no distribution to draw from; both of shape [rows]."""
        temperature = self.request.temperature if who is Source.STUDENT else self.request.teacher_temperature
        token, bad = sample(logits, self.uniforms[rows, positions, who], temperature)
        if self.noise[who] > 0:
            token = disturbed(token, self._noise_uniforms[rows, positions, who], self.noise[who], self._not_eos)
        return token, bad

    @cached_property
    def _noise_uniforms(self) -> Tensor:
        """As `uniforms`, but independent of them."""
        seeds = [(int(seed) + NOISE) % 2**64 for seed in self.request.row_seeds]
        return row_uniforms(seeds, self.source.shape[1]).float().to(self.ids.device)

    @cached_property
    def _not_eos(self) -> Tensor:
        ids = torch.arange(self.request.vocab_size, device=self.ids.device)
        return ids[~torch.isin(ids, self.eos_token_ids)]

    def _record(self, block: Block, writer: Source) -> None:
        at = (block.rows[:, None], block.positions)
        self.ids[block.rows[:, None], self.prompt_width + block.positions] = block.tokens
        self.source[at] = int(writer)
        self.divergence[at] = torch.nan  # a draft that was cut may have left its own here
        if len(block.logits) == 2:
            self.divergence[at] = self._measured(block)
        if self.request.keep_teacher_logits:
            logits = block.logits[Source.TEACHER]
            if self.teacher_logits is None:
                self.teacher_logits = logits.new_zeros(*self.source.shape, logits.shape[-1])
            self.teacher_logits[at] = logits

    def _measured(self, block: Block) -> Tensor:
        """d of every token, on a CPU in chunks that stay in its cache: three times as fast with 50,000 words."""
        teacher, student = block.logits[Source.TEACHER], block.logits[Source.STUDENT]
        elements = CHUNK_ELEMENTS if teacher.device.type == "cpu" else GPU_CHUNK_ELEMENTS
        chunk = max(1, elements // teacher.shape[-1])
        pairs = zip(teacher.flatten(0, 1).split(chunk), student.flatten(0, 1).split(chunk), strict=True)
        divergence = torch.cat([self.measure(*pair) for pair in pairs]).view(block.tokens.shape)
        of_real = divergence[block.real]
        if of_real.isnan().any():
            raise NonFiniteLogits(Source.TEACHER if has_no_distribution(teacher[block.real]) else Source.STUDENT)
        if of_real.isinf().any():
            rules_out = (student == -torch.inf) & (teacher > -torch.inf)
            of = Source.STUDENT if rules_out[block.real].any() else Source.TEACHER
            raise NonFiniteLogits(of, "logits of -inf to ids that the other model does not rule out: they are infinitely apart")
        return divergence

    def _let_teacher_take(self, block: Block, taken: Tensor, offset: Tensor, hand_over: bool) -> None:
        rows, offset = block.rows[taken], offset[taken]
        position = block.positions[taken].gather(1, offset[:, None])[:, 0]
        logits = block.logits[Source.TEACHER][taken, offset]
        token, bad = self._tokens(logits, rows, position, Source.TEACHER)
        if bad.any():
            raise NonFiniteLogits(Source.TEACHER)
        self.ids[rows, self.prompt_width + position] = token
        self.source[rows, position] = int(Source.TEACHER)
        if hand_over:
            self.switch_index[rows] = position

    def _ended(self, rows: Tensor) -> Tensor:
        length = self.length[rows]
        last = self.ids[rows, self.prompt_width + length - 1]
        return torch.isin(last, self.eos_token_ids) | (length >= self.request.max_new_tokens)

    def _join(self, groups: list[Group]) -> Group | None:
        if not groups:
            return None
        decoders = {who: [group.decoders[who] for group in groups] for who in self._needed_to_continue}
        return Group(torch.cat([group.rows for group in groups]), {who: type(same[0]).join(same) for who, same in decoders.items()})

    @property
    def _needed_to_continue(self) -> list[Source]:
        """The models of rows that the teacher writes to the end."""
        return [Source.STUDENT, Source.TEACHER] if self.request.record_divergence else [Source.TEACHER]
