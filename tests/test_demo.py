"""Texts of figures 1 and 2, and live writing."""

import pytest

from adaswitch_lib.experiments.demo import TOKENS, Writer, demo_prompts, kept_texts, write_texts
from adaswitch_lib.report.live import live


@pytest.fixture(scope="module")
def writer():
    return Writer("micro")


def test_a_text_is_shown_as_it_grows(writer):
    seen = []
    final = writer([writer.prompt], "AdaSwitch", seed=1, show=seen.append)
    assert [len(table) for table in seen] == list(range(1, len(final) + 1))
    assert all(table.token.tolist() == final.token.tolist()[: len(table)] for table in seen)
    assert final.token_id.tolist() == writer([writer.prompt], "AdaSwitch", seed=1).token_id.tolist()  # in blocks


def test_the_button_writes_by_the_policy_that_was_chosen(writer):
    prompt, controls, text = live(writer).children
    policy, *_, button = controls.children
    for name, says in (("off-policy", "the first of them token 0"), ("on-policy", "The student writes all")):
        policy.value = name
        button.click()
        assert says in text.value and not button.disabled
    prompt.value = "natasha has 2 stones ."
    button.click()
    assert "Not in the vocabulary of these models: natasha." in text.value
    prompt.value = ""
    button.click()
    assert "empty" in text.value


def test_texts_are_kept_by_pair(writer, tmp_path, monkeypatch):
    monkeypatch.setenv("ADASWITCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="write = True"):
        kept_texts("micro")
    write_texts("micro")
    texts = kept_texts("micro")
    assert set(texts.policy) == set(writer.policies) and set(texts.example) == set(range(len(demo_prompts("micro"))))
    assert texts.pos.max() < TOKENS and set(texts[texts.policy == "off-policy"].source) == {"teacher"}
    assert (texts[texts.policy == "AdaSwitch"].source == "teacher").mean() > 0.1


def test_another_pair_is_refused():
    with pytest.raises(ValueError, match="smollm2, micro"):
        Writer("tiny")
