import json

import pytest

from adaswitch_lib.tasks import encode_prompts, load_split, prompt_of, sample_prompts


def test_samples_ship_with_the_package():
    assert len(sample_prompts("gsm8k")) == len(sample_prompts("dialogue")) == 8
    assert all(prompt.startswith("Summarize") for prompt in sample_prompts("dialogue"))
    with pytest.raises(ValueError, match="no samples of 'news'"):
        sample_prompts("news")


def test_full_sets_come_from_the_folder_that_adaswitch_data_names(tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_DATA", str(tmp_path))
    rows = [{"question": "How many?", "answer": "#### 3"}, {"question": "Why?", "answer": "#### 4"}]
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [prompt_of(row) for row in load_split("gsm8k", "train")] == ["How many?", "Why?"]
    with pytest.raises(FileNotFoundError, match=r"unset it to use the hub"):
        load_split("gsm8k", "test")
    with pytest.raises(ValueError, match="no split 'validation': use one of train, test"):
        load_split("gsm8k", "validation")
    with pytest.raises(ValueError, match="unknown task"):
        load_split("mmlu", "test")


def test_prompts_are_padded_on_the_left(pair):
    ids, mask = encode_prompts(pair.tokenizer, ["Ann has two apples", "Bob"])
    assert mask.tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    assert pair.tokenizer.decode(ids[1][mask[1].bool()]) == "Bob"
