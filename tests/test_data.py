"""From texts and chats to ids: every form that data come in, and the end of a turn as the template writes it."""

import subprocess
import sys

import pytest
from chats import CHATML, FORGETS_THOUGHTS, GEMMA, LLAMA, PHI, PLAIN, chat_tokenizer
from datasets import Dataset, DatasetDict

from adaswitch_lib import encode_prompts, encode_rows
from adaswitch_lib.data import RowCollator, end_of_turn_id
from adaswitch_lib.models import eos_token_ids

SYSTEM, ASK = {"role": "system", "content": "Be short."}, {"role": "user", "content": "Is it late?"}
ANSWER, AGAIN = {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Sure?"}
CHAT = [SYSTEM, ASK, ANSWER, AGAIN]


def decoded(tokenizer, rows):
    return [tuple(tokenizer.decode(row[name]) for name in ("prompt_ids", "completion_ids")) for row in rows]


def test_chats_of_several_turns_are_rendered_by_the_template():
    tokenizer = chat_tokenizer()
    expected = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]
    ids, mask = encode_prompts(tokenizer, [CHAT, [ASK], "Is it late?"])
    assert ids[0].tolist() == expected == encode_rows([{"prompt": CHAT}], tokenizer)[0]["prompt_ids"]
    assert ids[1].tolist() == ids[2].tolist() and mask[1].sum() < mask[0].sum() == len(expected)
    assert not ids[1].eq(expected[0]).all() and (mask[1].diff() >= 0).all()


def test_rows_come_back_in_the_form_they_came_in():
    rows = [{"prompt": "Is it late?"}]
    for form in (rows, Dataset.from_list(rows), Dataset.from_list(rows).to_iterable_dataset()):
        assert type(encode_rows(form, chat_tokenizer())) is type(form)


@pytest.mark.parametrize("form", [list, Dataset.from_list, lambda rows: Dataset.from_list(rows).to_iterable_dataset()])
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASK, ANSWER]},
        {"messages": [ASK, ANSWER], "prompt": "Is it late?", "source": "here"},
        {"prompt": "Is it late?", "completion": "Yes."},
        {"prompt": [ASK], "completion": [ANSWER], "chosen": "no"},
        {"prompt": [ASK], "completion": "Yes."},
        {"prompt": "Is it late?", "completion": [ANSWER], "messages": [AGAIN]},
        {"prompt": [ASK | {"name": None}], "completion": [ANSWER], "label": None},
    ],
)
def test_every_form_of_a_row_is_the_same_row(form, row):
    tokenizer = chat_tokenizer()
    rows = list(encode_rows(form([row, row]), tokenizer))
    start = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nIs it late?<|im_end|>\n<|im_start|>assistant\n"
    assert decoded(tokenizer, rows) == [(start, "Yes.<|im_end|>")] * 2
    assert [row.keys() ^ {"prompt_ids", "completion_ids"} for row in rows] == [{"place"}] * 2
    assert [row["place"] for row in rows] == [0, 1]


@pytest.mark.parametrize("row", [{"prompt": [ASK]}, {"messages": [ASK]}, {"prompt": "Is it late?", "completion": None}])
def test_rows_of_prompts_alone_have_no_completion(row):
    rows = encode_rows([row, row], chat_tokenizer())
    assert [row["completion_ids"] for row in rows] == [[], []] and rows[0]["prompt_ids"][-1] == rows[1]["prompt_ids"][-1]
    assert RowCollator(0)(rows).completion_mask.shape == (2, 0)


@pytest.mark.parametrize(
    ("template", "ending"),
    [
        (CHATML, "Yes.<|im_end|>"),
        (LLAMA, "Yes.<|eot|>"),
        (GEMMA, "Yes.<|/turn|>"),
        (PHI, "Yes.<|end|>"),
        (PLAIN, " Yes.\n</s>"),
        (None, "Yes.</s>"),
    ],
    ids=["chatml", "llama", "gemma", "phi", "plain template", "no template"],
)
def test_a_completion_ends_as_its_template_ends_a_turn(template, ending, pair):
    tokenizer = chat_tokenizer(template)
    (row,) = encode_rows([{"prompt": "Is it late?", "completion": "Yes."}], tokenizer)
    assert tokenizer.decode(row["completion_ids"]) == ending
    assert row["completion_ids"][-1] in eos_token_ids(tokenizer, pair.student)  # so policies stop there, too


def test_a_template_may_end_a_turn_by_another_token_than_eos():
    assert chat_tokenizer().convert_ids_to_tokens(end_of_turn_id(chat_tokenizer())) == "<|im_end|>"
    assert end_of_turn_id(chat_tokenizer(None)) is None and end_of_turn_id(chat_tokenizer(PLAIN)) is None


def test_a_text_that_has_its_eos_gets_no_second_one():
    tokenizer = chat_tokenizer(None)
    rows = encode_rows([{"prompt": "a", "completion": text} for text in ("b", "b</s>", "")], tokenizer)
    assert [text for _, text in decoded(tokenizer, rows)] == ["b</s>", "b</s>", "</s>"]


def test_arguments_reach_the_template():
    tokenizer, row = chat_tokenizer(), {"prompt": "a", "completion": "<think>\n\n</think>\n\nYes."}
    (thinking,), (not_thinking,) = (encode_rows([row], tokenizer, arguments) for arguments in (None, {"enable_thinking": False}))
    assert tokenizer.decode(not_thinking["prompt_ids"]) == tokenizer.decode(thinking["prompt_ids"]) + "<think>\n\n</think>\n\n"
    assert tokenizer.decode(not_thinking["completion_ids"]) == "Yes.<|im_end|>"
    ids, _ = encode_prompts(tokenizer, ["a"], {"enable_thinking": False})
    assert ids[0].tolist() == not_thinking["prompt_ids"]
    assert list(encode_rows([row], chat_tokenizer(None), {"chat_template": CHATML})) == [thinking]
    with pytest.raises(ValueError, match="row 0: .*no chat template"):
        encode_rows([row], chat_tokenizer(None), {"enable_thinking": False})


def test_a_prompt_is_the_same_every_day_unless_a_date_is_given():
    tokenizer = chat_tokenizer(LLAMA)
    texts = [tokenizer.decode(encode_prompts(tokenizer, ["a"], kwargs)[0][0]) for kwargs in (None, {"date_string": "1 May 2025"})]
    assert "Today: 26 Jul 2024\n" in texts[0] and "Today: 1 May 2025\n" in texts[1]


@pytest.mark.parametrize(
    ("rows", "template", "says"),
    [
        ([], CHATML, "no rows"),
        (Dataset.from_dict({"prompt": [], "completion": []}), CHATML, "no rows"),
        ([{"prompt": "a"}, {"question": "a", "answer": "b"}], CHATML, "row 1: no prompt among question, answer"),
        (DatasetDict(train=Dataset.from_list([{"prompt": "a"}])), CHATML, "row 0: .*choose one split"),
        (["a", "b"], CHATML, "row 0: a row must be a dict"),
        ([{"prompt": 3}], CHATML, "row 0: neither a text nor a list of messages"),
        ([{"prompt": []}], CHATML, "row 0: neither a text nor a list of messages"),
        ([{"messages": ["Hello"]}], CHATML, "row 0: neither a text nor a list of messages"),
        ([{"prompt": [ASK], "completion": [ANSWER, AGAIN, ANSWER]}], CHATML, "row 0: .*one turn of the assistant"),
        ([{"prompt": "a"}, {"prompt": CHAT}], GEMMA, "row 1: .*System role not supported"),
        ([{"prompt": "a"}, {"prompt": [ASK]}], None, "row 1: .*no chat template"),
        ([{"prompt": [ASK], "completion": [ANSWER]}], FORGETS_THOUGHTS, "row 0: .*pass chat_template_kwargs"),
    ],
)
def test_what_cannot_be_encoded_is_named_by_its_row(rows, template, says):
    with pytest.raises(ValueError, match=says):
        encode_rows(rows, chat_tokenizer(template))


def test_a_completion_without_any_end_is_refused():
    with pytest.raises(ValueError, match="row 0: .*set tokenizer.eos_token"):
        encode_rows([{"prompt": "a", "completion": "b"}], chat_tokenizer(None, eos_token=None))
    assert len(encode_rows([{"prompt": "a", "completion": "b"}], chat_tokenizer(eos_token=None))) == 1  # <|im_end|> ends it


def test_prompts_that_cannot_be_encoded_are_named():
    with pytest.raises(ValueError, match="prompt 1: .*System role"):
        encode_prompts(chat_tokenizer(GEMMA), ["a", CHAT])
    for single in ("Is it late?", [ASK]):
        with pytest.raises(TypeError, match="put it into a list"):
            encode_prompts(chat_tokenizer(), single)


LONG_ROW = """
import resource, sys
sys.path.insert(0, {tests!r})
from chats import chat_tokenizer
from datasets import Dataset
from adaswitch_lib import encode_rows
tokenizer = chat_tokenizer()
encode_rows(Dataset.from_list([{{"prompt": "a", "completion": "b"}}]), tokenizer)
texts = [{{"prompt": "Is it late?", "completion": "Yes."}}] * 1999 + [{{"prompt": "a" * 30_000, "completion": "b"}}]
texts = Dataset.from_list(texts)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = encode_rows(texts, tokenizer)
assert max(map(len, rows["prompt_ids"])) > 30_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (2**20 if sys.platform == "darwin" else 2**10))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the module resource is of Unix")
def test_one_long_row_among_many_takes_its_own_memory(request):
    script = LONG_ROW.format(tests=str(request.path.parent))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=request.config.rootpath)
    assert run.returncode == 0, run.stderr[-2000:]
    assert float(run.stdout.split()[-1]) < 300  # MB
