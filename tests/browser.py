"""A real browser for tests: Debian's Chromium, driven by Playwright. Where there is none, tests that ask for it are skipped."""

import shutil

import pytest

FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()


@pytest.fixture(scope="session")
def chromium():
    """The browser, for as long as the tests run."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: `make test-browser` installs it")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium: `make test-browser` installs it")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def show(chromium, tmp_path):
    """Opens a page of the HTML given. At the end nothing may have gone wrong in it, and no network been asked."""
    wrong, contexts = [], []

    def show(*parts, attributes="", **settings):
        context = chromium.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
        file = tmp_path / f"{len(contexts)}.html"
        file.write_text(
            f"<!doctype html><html {attributes}><meta charset='utf-8'><body>{''.join(parts)}</body></html>", encoding="utf-8"
        )
        page.goto(file.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert not wrong
