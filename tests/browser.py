"""A real browser for tests: Debian's Chromium, driven by Playwright. Where there is none, tests that ask for it are skipped."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

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


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a folder of the test's own: its address, to which `/lab/tree/<notebook>` is added."""
    pytest.importorskip("jupyterlab", reason="no JupyterLab: it comes with the extra `notebooks`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"port": port, "root_dir": tmp_path, "token": "", "password": "", "open_browser": False, "allow_root": True}
    command = [sys.executable, "-m", "jupyterlab", *(f"--ServerApp.{name}={value}" for name, value in options.items())]
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}  # none of the user's settings
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    with open(tmp_path / "server.log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | own | {"PYTHONPATH": path})
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)
