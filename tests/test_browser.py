"""JupyterLab and the documentation in headless Chromium; screenshots go to runs/browser."""

import functools
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import PROJECT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)"
)

SCREENSHOTS = PROJECT / "runs" / "browser"
TIMEOUT = 240  # seconds for a notebook, on a busy machine
# Lab would ask in a pop-up whether to look for news
NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}

# Only a kernel that has answered takes part in Run All Cells: without waiting for it the command
# is lost now and then.
READY = """async () => {
    const shown = window.jupyterapp.shell.currentWidget;
    await shown.context.ready; await shown.sessionContext.ready;
    const kernel = shown.sessionContext.session.kernel;
    await kernel.info; await kernel.spec;
}"""
UNSAVED = "() => window.jupyterapp.shell.currentWidget.context.model.dirty"
CELLS = """() => {
    const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
    return Array.from(cells, cell => cell.toJSON());
}"""
ENDED = """() => {
    const shown = window.jupyterapp.shell.currentWidget;
    const cells = Array.from(shown.content.model.cells)
        .filter(cell => cell.type === 'code' && cell.sharedModel.source.trim());
    const types = cell => Array.from(
        {length: cell.outputs.length}, (_, place) => cell.outputs.get(place).type);
    const idle = shown.sessionContext.session.kernel.status === 'idle';
    return cells.some(cell => types(cell).includes('error'))
        || (cells.every(cell => cell.executionCount) && idle);
}"""
SHOW = """async place => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = place; await notebook.scrollToItem(place, 'start');
}"""
CLOSE = """async () => {
    const shown = window.jupyterapp.shell.currentWidget;
    await shown.sessionContext.shutdown(); await shown.context.save(); shown.close();
}"""


@pytest.fixture(scope="session")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, request):
    """A page that may load from this machine only; a screenshot is taken at the end."""
    opened, requested = browser.new_page(viewport={"width": 1400, "height": 1000}), []
    opened.on("request", lambda request: requested.append(request.url))
    yield opened
    screenshot(opened, request.node.name)
    opened.close()
    assert not [url for url in requested if re.match(r"https?://(?!127\.0\.0\.1)", url)]


def screenshot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.png")


@pytest.fixture(scope="session")
def lab(workplace, tmp_path_factory):
    """JupyterLab on a copy of the project's notebooks and figures: its address and the folder."""
    folder, settings = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("settings")
    for name in ("nbs", "figures"):
        shutil.copytree(PROJECT / name, folder / name)
    extension = settings / "@jupyterlab" / "apputils-extension"
    extension.mkdir(parents=True)
    (extension / "notification.jupyterlab-settings").write_text(json.dumps(NO_NEWS))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}",
        "--expose-app-in-browser",
    ]
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTER_CONFIG_DIR": str(settings),
        "JUPYTER_CONFIG_PATH": str(PROJECT / ".jupyter"),  # as `make lab`
        "OMP_NUM_THREADS": "1",  # Chromium needs a core too
    }
    server = subprocess.Popen(
        [Path(sys.executable).parent / "jupyter", "lab", *options],
        env=environment,
        stdout=(settings / "log").open("w"),
        stderr=subprocess.STDOUT,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (settings / "log").read_text()
                time.sleep(0.5)
        yield address, folder
    finally:
        server.terminate()
        server.wait(timeout=30)


def set_parameters(path, **values):
    """Give the parameters cell of a notebook's copy other defaults."""
    notebook = json.loads(path.read_text())
    cell = next(
        cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", [])
    )
    text = "".join(cell["source"])
    for name, value in values.items():
        text, found = re.subn(rf"(?m)^({name}: \w+ = )[^#\n]+", rf"\g<1>{value!r}  ", text)
        assert found == 1, name
    cell["source"] = text.splitlines(keepends=True)
    path.write_text(json.dumps(notebook))


def open_notebook(page, lab, path):
    """Open a notebook as a reader does, and wait for its kernel, which changes nothing in it."""
    page.goto(f"{lab[0]}/lab/tree/{path}?reset")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.evaluate(READY)
    page.wait_for_timeout(1000)  # until what waits for the kernel, too, has been done
    assert not page.evaluate(UNSAVED)


def run_all(page):
    """Run all cells by the menu and return them with their outputs; an error in a cell fails."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.wait_for_function(ENDED, polling=500, timeout=1000 * TIMEOUT)
    cells = page.evaluate(CELLS)
    errors = [
        "\n".join(output["traceback"])
        for cell in cells
        for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    ]
    assert not errors, errors[0]
    return cells


def shown_images(page, inside):
    """The width of each picture inside an element; 0 for one that could not be loaded."""
    page.wait_for_function(
        "inside => [...document.querySelectorAll(inside + ' img')].every(one => one.complete)",
        arg=inside,
    )
    return page.locator(f"{inside} img").evaluate_all(
        "pictures => pictures.map(picture => picture.naturalWidth)"
    )


def test_front_page_runs(page, lab):
    open_notebook(page, lab, "nbs/index.ipynb")
    run_all(page)
    page.evaluate(SHOW, 0)
    page.wait_for_timeout(500)
    assert min(shown_images(page, ".jp-MarkdownOutput")) > 100  # links are relative to the notebook
    screenshot(page, "front page")
    page.evaluate(CLOSE)


def test_figure_runs(page, lab, workplace, tmp_path):
    path = "nbs/paper/figure6.ipynb"
    set_parameters(
        lab[1] / path,
        profile="smoke",
        runs=str(workplace / "runs"),
        cache=str(workplace / "data" / "synthetic"),
        output=str(tmp_path / "figure6"),
    )
    open_notebook(page, lab, path)
    cells = run_all(page)
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) == 1
    assert (tmp_path / "figure6" / "attention.png").stat().st_size > 5000
    assert (tmp_path / "figure6" / "table.md").exists()
    page.evaluate(SHOW, 4)
    page.wait_for_timeout(500)
    screenshot(page, "figure")
    page.evaluate(SHOW, len(cells) - 1)
    page.wait_for_timeout(500)
    page.evaluate(CLOSE)


def test_explorer_follows_its_sliders(page, lab, workplace):
    path = "nbs/tutorials/explorer.ipynb"
    set_parameters(lab[1] / path, runs=str(workplace / "runs"))
    open_notebook(page, lab, path)
    cells = run_all(page)
    sources = ["".join(cell["source"]) for cell in cells]
    page.evaluate(SHOW, next(i for i, text in enumerate(sources) if text.startswith("explorer = ")))
    for name in ("pose", "expression"):
        slider = page.locator(".widget-hslider", has_text=name).get_by_role("slider")
        picture = page.locator("img.widget-image")
        before, start = picture.get_attribute("src"), time.perf_counter()
        slider.focus()
        slider.press("ArrowRight")
        page.wait_for_function(
            "before => document.querySelector('img.widget-image').src !== before",
            arg=before,
            timeout=10_000,
        )
        print(f"{name}: a new picture after {time.perf_counter() - start:.2f} s")
    page.wait_for_timeout(500)
    assert min(shown_images(page, ".jupyter-widgets")) > 100
    assert "Identity" in page.locator(".widget-html").last.inner_text()
    screenshot(page, "explorer")
    page.evaluate(CLOSE)


@pytest.fixture(scope="session")
def served(site):
    """The address of the built documentation."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_documentation_search_and_links(page, served):
    page.goto(served)
    assert min(shown_images(page, "article")) > 100
    screenshot(page, "documentation")
    page.get_by_placeholder("Search").fill("identity_loss")
    page.keyboard.press("Enter")
    page.locator("#search-results").get_by_role("link", name="aggan.losses.identity_loss").click()
    described = page.locator("dl", has=page.locator("[id='aggan.losses.identity_loss']"))
    assert "One minus the mean cosine" in described.inner_text()
    translated = described.locator("tr", has_text="translated").first
    assert translated.locator("td").nth(1).inner_text() == "Tensor"
    screenshot(page, "documentation api")
    page.goto(f"{served}/search.html?q=learning+rate")
    page.locator("#search-results").get_by_role("link", name="Training").first.wait_for()
    page.go_back()
    page.get_by_role("link", name="08_losses").click()
    assert page.locator("h1").inner_text().startswith("Losses")
    assert page.locator("math").count() > 10
    page.locator(".sidebar-tree").get_by_role("link", name="Figures", exact=True).first.click()
    page.get_by_role("heading", name="Figure 9").scroll_into_view_if_needed()
    assert min(shown_images(page, "article")) > 100
