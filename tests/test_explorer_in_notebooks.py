"""The explorer in JupyterLab, and in a page exported from it."""

import pandas as pd
import pytest

from adaswitch_lib.report.explorer import explore

pytest_plugins = ["browser"]
nbformat = pytest.importorskip("nbformat", reason="no nbformat: it comes with the extra `notebooks`")

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
        page.get_by_role("button", name="Reset").focus()
        for key in ("Enter", "ArrowDown", "a", "d", "d"):  # JupyterLab has plans of its own with them
            page.keyboard.press(key)
        page.get_by_text("takes over at token 5").wait_for()
        assert cell.count() == page.locator(".adaswitch").count() == 1
    page.close()


def test_an_exported_page_shows_it_without_a_kernel(chromium, tmp_path):
    nbconvert = pytest.importorskip("nbconvert", reason="no nbconvert: it comes with the extra `notebooks`")
    trace = pd.DataFrame({"divergence": [0.1, 0.2, 0.1, 0.1, 0.3, 2.0, 0.1]})
    html = explore(trace.assign(pos=trace.index, token="word ")).data
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
