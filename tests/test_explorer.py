"""The explorer: its copy of the rule against switching.py, its page by mouse and by keyboard, and what it refuses."""

import inspect
import re

import pandas as pd
import pytest
import torch

from adaswitch_lib.experiments.paths import home
from adaswitch_lib.report.explorer import DARK, SCRIPT, compare, explore
from adaswitch_lib.report.plot_style import COLOURS
from adaswitch_lib.switching import SwitchRule, first_switch, switch_threshold

pytest_plugins = ["browser"]


def table(divergence, **columns):
    tokens = [f" w{i}" for i in range(len(divergence))]
    return pd.DataFrame({"pos": range(len(tokens)), "token": tokens, "source": "student", "divergence": divergence, **columns})


def random_trace(seed, length=40):
    """Values that both number formats hold exactly, with many ties and zeros; their sums are exact as well."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 12, (length,), generator=generator) ** 3 * torch.randint(0, 2, (length,), generator=generator)) / 256


def switch(divergence, rule):
    d = torch.as_tensor(divergence, dtype=torch.float64)[None]
    return int(first_switch(d, torch.ones_like(d), rule))


def stated_switch(widget):
    found = re.search(r"takes over at token (\d+)", widget.get_by_role("status").first.inner_text())
    return int(found[1]) if found else -1


TRACE = table([1.0, 1.2, 0.9, 1.1, 0.1, 0.2, 0.1, 0.9, 0.2, 2.5, 0.3, 0.0, 6.0])


# ---- the rule


def test_the_copy_of_the_rule_agrees_with_switching_py_on_a_thousand_traces(show):
    rules, traces = [], []
    for seed in range(1000):
        pick = torch.Generator().manual_seed(10_000 + seed)
        multiplier, window, history, floor = (int(torch.randint(0, top, (), generator=pick)) for top in (24, 40, 12, 5))
        rules.append(SwitchRule((multiplier + 1) / 4, window + 1, history, floor / 4))
        traces.append(random_trace(seed, 1 + seed % 60).double())
    page = show()
    cases = [{"d": d.tolist(), "rule": vars(rule)} for d, rule in zip(traces, rules, strict=True)]
    functions = SCRIPT.read_text(encoding="utf-8").split("for (const root of")[0]
    call = "cases.map(({ d, rule }) => { const tau = switchThreshold(d, rule); return [tau, firstSwitch(d, tau)]; })"
    found = page.evaluate(f"(cases) => {{ {functions}\n return {call}; }}", cases)
    for d, rule, (threshold, place) in zip(traces, rules, found, strict=True):
        assert torch.equal(torch.tensor(threshold, dtype=torch.float64), switch_threshold(d[None], rule)[0]), rule
        assert place == switch(d, rule), rule
    assert 200 < sum(place >= 0 for _, place in found) < 1000  # both happen often


def test_the_rule_to_begin_with_is_that_of_the_library():
    parameters = inspect.signature(explore).parameters
    assert SwitchRule() == SwitchRule(**{name: parameters[name].default for name in vars(SwitchRule())})


def test_explorers_of_kept_texts_switch_where_adaswitch_did(show):
    """The student's own text is AdaSwitch's up to its switch. All on one page: they must not disturb each other."""
    file = home() / "results" / "quickstart" / "traces.parquet"
    kept = pd.read_parquet(file)
    alone, switched = (kept[kept.policy == policy] for policy in ("on-policy", "AdaSwitch"))
    examples = sorted(alone.example.unique())
    page = show(*(explore(alone[alone.example == example]) for example in examples))
    taken = switched[switched.source == "teacher"].groupby("example").pos.min()
    widgets = page.locator(".adaswitch").all()
    assert [stated_switch(widget) for widget in widgets] == [taken.get(example, -1) for example in examples]
    page.get_by_role("slider", name="floor").first.press("End")
    assert [stated_switch(widget) for widget in widgets[1:]] == [taken.get(example, -1) for example in examples[1:]]
    assert stated_switch(widgets[0]) == -1


# ---- the page


def test_every_stop_of_every_slider_says_what_the_rule_says(show):
    page = show(explore(TRACE))
    start = vars(SwitchRule())
    for name, label in {"multiplier": "K", "window": "L", "min_history": "min_history", "floor": "floor"}.items():
        slider = page.get_by_role("slider", name=label, exact=True)
        seen = []
        slider.press("Home")
        for _ in range(int(slider.get_attribute("max")) + 1):
            value = float(re.search(r"[\d.]+", slider.get_attribute("aria-valuetext"))[0])
            value = value if name in ("multiplier", "floor") else int(value)
            seen.append(stated_switch(page))
            assert seen[-1] == switch(TRACE.divergence, SwitchRule(**start | {name: value})), (name, value)
            assert seen[-1] < 0 or page.locator(".switch .index").inner_text() == f"▼ {seen[-1]}"
            slider.press("ArrowRight")
        assert len(set(seen)) > 1, f"nothing happens along {label}"
        assert name == "window" or seen[-1] == -1  # the last stop is the first that never switches
        page.get_by_role("button", name="Reset").click()
        assert stated_switch(page) == switch(TRACE.divergence, SwitchRule())


def test_all_tokens_are_shown_and_said(show):
    trace = table([0.0, 0.2, 0.1, 0.4, 3.0, 0.1]).assign(token=["<b>", "'", '"&amp;', "\n", "</script>", "é"])
    page = show(explore(trace, prompt="1 < 2 & 'so'"))
    assert page.locator(".word").all_inner_texts() == ["<b>", "'", '"&amp;', "⏎", "</script>", "é"]
    assert page.locator(".prompt").inner_text() == "1 < 2 & 'so'"
    said = page.get_by_role("img").get_attribute("aria-label")
    assert said == " The student writes: <b> ' \"&amp; \n  The teacher writes: </script> é"
    assert "token 4, where the student wrote “</script>”" in page.get_by_role("status").inner_text()
    look = page.get_by_role("slider", name="Look at token")
    look.press("Home")
    assert re.match("0, “<b>”: d = 0.00 nats, no threshold yet; the student writes", look.get_attribute("aria-valuetext"))
    page.locator(".word").last.hover()
    assert re.match("5, “é”: d = 0.10 nats, not above τ = .*; the teacher writes", look.get_attribute("aria-valuetext"))


def test_tokens_without_any_divergence(show):
    for trace in (table([0.0]), table([0.0] * 9)):
        assert stated_switch(show(explore(trace, min_history=0))) == -1


@pytest.mark.parametrize("length", [48, 128])
def test_a_step_takes_less_than_a_frame(show, length):
    page = show(explore(table((random_trace(0, length) + 0.01).tolist())))
    milliseconds = page.evaluate("""() => {
        const slider = document.querySelector("[aria-label=K]"), times = Array(40).fill(Infinity);
        for (let turn = 0; turn < 5; turn++) {
            for (let stop = 0; stop < 40; stop++) {
                const begin = performance.now();
                slider.value = stop;
                slider.dispatchEvent(new Event("input"));
                document.body.getBoundingClientRect();  // and the layout
                times[stop] = Math.min(times[stop], performance.now() - begin);  // what else runs here only adds to it
            }
        }
        return times.sort((a, b) => a - b)[20];
    }""")
    assert milliseconds < 16


def test_a_narrow_page_does_not_scroll_sideways(show):
    for widget in (explore(TRACE, "a prompt"), compare(texts())):
        page = show(widget, viewport={"width": 600, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 600


@pytest.mark.parametrize(
    "attributes", ["", "data-theme='dark'", "data-jp-theme-light='false'", "theme='dark'", "class='vscode-dark'"]
)
def test_the_colours_follow_the_theme(show, attributes):
    page = show(explore(TRACE), attributes=attributes)
    painted = page.evaluate(
        """[...document.querySelectorAll(".student .bar, .teacher .bar")].map((bar) => getComputedStyle(bar).backgroundColor)"""
    )
    colours = DARK if attributes else COLOURS
    assert set(painted) == {f"rgb{tuple(bytes.fromhex(colour[1:]))}" for colour in colours.values()}


def test_the_colours_have_contrast():
    for colours, page in ((COLOURS, "#FFFFFF"), (DARK, "#111111"), (DARK, "#383838")):
        for colour in colours.values():
            light, dark = sorted((luminance(colour), luminance(page)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3


def luminance(colour):
    """Relative luminance by WCAG."""
    red, green, blue = (
        x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in (v / 255 for v in bytes.fromhex(colour[1:]))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# ---- texts side by side


def texts():
    """Two methods, two steps, two examples; the teacher writes more of later texts and of the second method's."""
    parts = []
    for method, more in (("kd", 0), ("adaswitch", 2)):
        for step in (0, 50):
            for example in (0, 1):
                part = table([0.1 * i for i in range(6)], method=method, step=step, example=example)
                part.loc[6 - more - step // 50 :, "source"] = "teacher"
                part.loc[part.source == "teacher", "token"] += f"/{step}{method}"
                parts.append(part)
    return pd.concat(parts)


def test_texts_are_picked_by_method_step_and_example(show):
    page = show(compare(texts(), prompts=["first?", "second?"], note="a note"))
    left, right, apart = page.get_by_role("status").all()
    assert "writes 0 of 6 tokens" in left.inner_text() and "writes 1 of 6 tokens (17 %)" in right.inner_text()
    assert "from token 5 on" in apart.inner_text() and page.get_by_text("a note").is_visible()
    page.get_by_label("right: method").select_option("adaswitch")
    assert "writes 3 of 6 tokens (50 %); over the 2 examples 6 of 12" in right.inner_text()
    page.get_by_label("left: method").select_option("adaswitch")
    page.get_by_label("left: step").select_option("50")
    assert "same" in apart.inner_text()
    said = page.get_by_role("img").first.get_attribute("aria-label")
    assert said.startswith(" The student writes:  w0 w1 w2 The teacher writes:  w3/50adaswitch")
    page.get_by_label("example").select_option("1")
    assert page.locator(".prompt").inner_text() == "second?"


def test_a_text_that_is_not_kept(show):
    kept = texts()
    page = show(compare(kept[~((kept.method == "kd") & (kept.step == 50))]))
    assert "not kept" in page.get_by_role("status").nth(1).inner_text()


# ---- the HTML


def test_pages_are_small_and_whole():
    for widget in (explore(TRACE), compare(texts())):
        assert len(widget.encode()) < 20_000
        assert not re.search(r"http|<[^>]* (src|href|id)=", widget)


def test_the_text_can_be_read_where_scripts_do_not_run():
    assert "".join(TRACE.token) in explore(TRACE, "a <prompt>") and "a &lt;prompt&gt;" in explore(TRACE, "a <prompt>")


@pytest.mark.parametrize(
    "trace, message",
    [
        (pd.concat([TRACE, TRACE]), "one text"),
        (TRACE[:0], "one text"),
        (TRACE.drop(columns="divergence"), "no column divergence"),
        (TRACE.assign(source="teacher"), "wrote alone"),
        (TRACE.assign(divergence=float("nan")), "record_divergence"),
    ],
)
def test_what_explore_refuses(trace, message):
    with pytest.raises(ValueError, match=message):
        explore(trace)


@pytest.mark.parametrize("rule", ["multiplier=0", "multiplier=inf", "floor=-1", "window=0", "window=2.5", "min_history=-1"])
def test_rules_out_of_range_are_refused(rule):
    name, value = rule.split("=")
    with pytest.raises(ValueError, match="got"):
        explore(TRACE, **{name: float(value) if value in ("inf", "2.5") else int(value)})


@pytest.mark.parametrize(
    "traces, message",
    [
        (TRACE, "no column example"),
        (TRACE.assign(example=0), "tells the texts apart"),
        (pd.concat([texts(), texts()]), "keep one task, seed"),
        (texts().assign(divergence=float("nan")), "record_divergence"),
    ],
)
def test_what_compare_refuses(traces, message):
    with pytest.raises(ValueError, match=message):
        compare(traces)
