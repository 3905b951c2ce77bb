"""The page in a real browser: with the mouse and with the keyboard, on a desk and on a phone."""

import shutil

import pytest

from tests.serving.running import running

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, served):
    """Opens the page at a width; every request and every error of it is noted."""
    contexts = []

    def opened(width=1200, height=900, path="/", service=served):
        context = browser.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.wrong = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("console", lambda m: page.wrong.append(m.text) if m.type == "error" else None)
        page.goto(service.url + path)
        return page

    yield opened
    for context in contexts:
        context.close()


def titles(page, name):
    page.wait_for_selector(f"#{name} .hit")
    return page.locator(f"#{name} .hit .title").all_inner_texts()


def expected(served, query, method, k=10):
    return [hit.title for hit in served.client.retrieve([query], k=k, method=method)[0].hits]


def test_a_search_by_mouse(open_page, served):
    page = open_page()
    page.fill("#query", "red camera")
    page.click("button[type=submit]")
    assert titles(page, "generated") == expected(served, "red camera", "generated")
    assert titles(page, "words") == expected(served, "red camera", "bm25")
    (found,) = served.client.retrieve(["red camera"], k=10)
    first = page.locator("#generated .hit").first
    tokens = first.locator(".token").all_inner_texts()
    assert "".join(f"<{token}>" for token in tokens) == found.hits[0].docid
    assert first.locator(".score").inner_text().startswith(f"{found.hits[0].score:.2f}")
    assert page.locator("#proof").inner_text() in ("proven", "not proven")
    assert page.url.endswith("?q=red%20camera")
    assert not page.locator("#key").is_visible()
    assert page.wrong == []
    assert all(url.startswith(served.url) for url in page.asked if not url.startswith("data:"))


def test_the_tree_and_its_highlights(open_page, served):
    page = open_page(path="/?q=tea")
    titles(page, "generated")
    beams = served.service.living.current.search.beams
    assert page.locator("#tree .leaf").count() == beams
    (found,) = served.client.retrieve(["tea"], k=beams)
    prefix = found.hits[0].tokens[0]
    page.locator(f'#tree .cell[data-prefix="{prefix}"]').click()
    outside = [hit for hit in found.hits[:10] if hit.tokens[0] != prefix]
    assert page.locator("#generated .hit.dim").count() == len(outside)
    page.locator(f'#tree .cell[data-prefix="{prefix}"]').click()
    assert page.locator(".hit.dim").count() == 0


def test_filters_come_from_categories_and_go_again(open_page, served):
    page = open_page(path="/?q=tea")
    everything = titles(page, "generated")
    (found,) = served.client.retrieve(["tea"], k=10)
    category = found.hits[0].categories[0]
    page.locator("#generated .hit .path button").first.click()
    page.wait_for_selector(".chip")
    page.wait_for_selector("main:not(.busy)")
    given = {"allow_categories": [[category]]}
    (narrow,) = served.client.retrieve(["tea"], k=10, filter=given)
    assert titles(page, "generated") == [hit.title for hit in narrow.hits]
    page.locator(".chip").click()
    page.wait_for_selector("main:not(.busy)")
    assert titles(page, "generated") == everything


def test_by_keyboard_alone(open_page, served):
    page = open_page()
    page.locator("body").press("/")
    page.keyboard.type("sofa bed")
    page.keyboard.press("Enter")
    found = titles(page, "generated")
    page.wait_for_selector("main:not(.busy)")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == found[1]
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.locator("#p-title").inner_text() == found[1]
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    for _ in range(2):
        page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "query"
    assert page.wrong == []


def test_on_a_phone(open_page, served):
    """One list at a time, nothing wider than the screen, targets large enough for a finger."""
    page = open_page(width=375, height=740, path="/?q=tea")
    titles(page, "generated")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert not page.locator("#words").is_visible()
    page.click("[data-tab=words]")
    assert page.locator("#words").is_visible()
    assert not page.locator("#generated").is_visible()
    for selector in ("#query", "button[type=submit]", "[role=tab] >> nth=0"):
        assert page.locator(selector).bounding_box()["height"] >= 40


def test_what_the_service_refuses_is_shown(open_page, tiny_workdir):
    with running(tiny_workdir, key="secret") as service:
        page = open_page(path="/?q=tea", service=service)
        page.wait_for_selector(".problem")
        assert "key" in page.locator(".problem").inner_text()
        page.fill("#key", "secret")
        page.locator("#key").press("Tab")
        page.wait_for_selector("#generated .hit")
        assert page.locator(".problem").count() == 0


def test_markup_in_products_is_text(open_page, tiny_workdir):
    with running(tiny_workdir) as service:
        title = '<img src=x onerror="document.title=1">'
        product = service.service.living.current.catalog.ids[0]
        change = {"upsert": [{"id": product, "title": title, "categories": ["<b>A</b>"]}]}
        service.admin.call("POST", "/v1/admin/products", change)
        page = open_page(path="/?q=img", service=service)
        page.wait_for_selector("#words .hit")
        assert page.locator("#words .hit .title").first.inner_text() == title
        assert page.locator("img").count() == 0
