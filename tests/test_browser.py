"""Notebooks and the explorer as people meet them: in JupyterLab, in an exported page, and on the site, in a real browser."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from adaswitch_lib.report.explorer import explore

pytest_plugins = ["browser"]
nbformat = pytest.importorskip("nbformat", reason="no nbformat: it comes with the extra `notebooks`")

ROOT = Path(__file__).parents[1]
SCREENSHOTS = ROOT / "build" / "screenshots"

CELL = """import pandas as pd
from adaswitch_lib.report.explorer import explore
trace = pd.DataFrame({"divergence": [0.1, 0.2, 0.1, 0.1, 0.3, 2.0, 0.1]})
explore(trace.assign(pos=trace.index, token="word "))"""


def notebook():
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata=metadata)


def test_jupyterlab_shows_it_by_keyboard_and_after_a_second_run(chromium, lab, tmp_path):
    nbformat.write(notebook(), tmp_path / "page.ipynb")
    page = chromium.new_page()
    page.goto(f"{lab}/lab/tree/page.ipynb")
    cell = page.locator(".jp-CodeCell")
    for run in (1, 2):
        cell.locator(".cm-content").click(timeout=60_000)
        page.keyboard.press("Control+Enter")
        cell.locator(".jp-InputPrompt").get_by_text(f"[{run}]:").wait_for(timeout=60_000)
        page.get_by_text("takes over at token 5").wait_for()
        page.get_by_role("slider", name="K", exact=True).focus()
        page.keyboard.press("End")
        page.get_by_text("never takes over").wait_for()
        floor = page.get_by_role("slider", name="floor")
        floor.press("Home")
        floor.press("ArrowRight")
        assert floor.evaluate("it => [it.value, it === document.activeElement]") == ["1", True]
        page.get_by_role("button", name="Reset").focus()
        for key in ("Enter", "ArrowDown", "a", "d", "d"):  # JupyterLab has plans of its own with them
            page.keyboard.press(key)
        page.get_by_text("takes over at token 5").wait_for()
        assert cell.count() == page.locator(".adaswitch").count() == 1
    page.close()


def test_an_exported_page_shows_it_without_a_kernel(chromium, tmp_path):
    nbconvert = pytest.importorskip("nbconvert", reason="no nbconvert: it comes with the extra `notebooks`")
    trace = pd.DataFrame({"divergence": [0.1, 0.2, 0.1, 0.1, 0.3, 2.0, 0.1]})
    html = explore(trace.assign(pos=trace.index, token="word "))
    book = notebook()
    book.cells[0]["outputs"] = [nbformat.v4.new_output("execute_result", data={"text/html": html}, execution_count=1)]
    (tmp_path / "page.html").write_text(nbconvert.HTMLExporter(theme="dark").from_notebook_node(book)[0], encoding="utf-8")
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri(), wait_until="domcontentloaded")
    page.get_by_text("takes over at token 5").wait_for()
    page.get_by_role("slider", name="floor").press("End")
    page.get_by_text("never takes over").wait_for()
    context.close()


@pytest.mark.parametrize(
    ("name", "explorers", "says"),
    [
        ("00_start_here", 1, "takes over at token"),
        ("01_switching_rule", 2, "AdaSwitch switched in"),
        ("03_main_results", 0, "AdaSwitch minus"),
        ("05_switch_rate", 1, "writes"),
    ],
)
def test_jupyterlab_runs_the_notebook(name, explorers, says, chromium, lab, tmp_path):
    shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", tmp_path)
    for preset in ("quickstart", "micro"):
        shutil.copytree(ROOT / "results" / preset, tmp_path / "results" / preset, ignore=shutil.ignore_patterns("executed"))
    wrong = []
    page = chromium.new_page(viewport={"width": 1200, "height": 900})
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{lab}/lab/tree/{name}.ipynb")
    page.locator(".jp-CodeCell").first.wait_for(timeout=60_000)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    last = page.locator(".jp-CodeCell .jp-InputPrompt").last
    last.filter(has_text=re.compile(r"\[\d+\]")).wait_for(timeout=240_000)
    if name == "01_switching_rule":
        page.get_by_role("button", name="Write", exact=True).click(timeout=60_000)
        page.get_by_text(re.compile(r"The teacher writes \d+ of \d+ tokens, the first of them")).wait_for(timeout=60_000)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for i, cell in enumerate(page.locator(".jp-CodeCell").all()):
        cell.scroll_into_view_if_needed()
        cell.screenshot(path=SCREENSHOTS / f"{name}_{i}.png")
    assert page.get_by_text(says).count() > 0
    assert page.locator(".adaswitch").count() == explorers
    assert page.locator(".jp-RenderedText[data-mime-type*=error]").count() == 0
    assert not wrong
    page.close()


def test_the_site_shows_notebooks_without_a_kernel(chromium):
    """Of `make site`, which comes before."""
    page_file = ROOT / "build" / "site" / "notebooks" / "01_switching_rule.html"
    if not page_file.is_file():
        pytest.skip("no pages: `make site` builds them")
    context = chromium.new_context(offline=True, viewport={"width": 600, "height": 900})
    page = context.new_page()
    page.goto(page_file.as_uri(), wait_until="domcontentloaded")
    status = page.locator(".adaswitch").first.get_by_role("status")
    before = status.inner_text()
    page.get_by_role("slider", name="floor").first.press("End")
    assert "never takes over" in status.inner_text() and before != status.inner_text()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.locator(".adaswitch").first.screenshot(path=SCREENSHOTS / "site_explorer_600px.png")
    context.close()
