"""The page in a real browser: sorting and filtering without a reload, and everything without scripts too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from api.app import create_app
from tests.api.devtools import PROGRAM, Browser
from tests.api.fake import HOSTILE, ROWS, FakeSource

pytestmark = [pytest.mark.browser, pytest.mark.skipif(PROGRAM is None, reason="no Chromium on the PATH")]

SHOWN = """[...document.querySelectorAll('#board tbody tr:not(.nothing)')].filter(row => !row.hidden)
  .map(row => row.querySelector('[data-column=model]').dataset.value)"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The service on a free port of this machine."""
    server = uvicorn.Server(uvicorn.Config(create_app(source=FakeSource()), port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A fresh browser."""
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


def type_filter(browser: Browser, text: str) -> None:
    """Type into the text filter."""
    browser.run(
        f"(() => {{ const field = document.querySelector('[name=q]'); field.value = {text!r};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def choose_family(browser: Browser, family: str) -> None:
    """Choose in the family box."""
    browser.run(
        f"(() => {{ const box = document.querySelector('[name=family]'); box.value = {family!r};"
        "box.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def test_sorting_and_filtering_do_not_reload(browser: Browser, address: str) -> None:
    """Headers sort both ways, filters hide rows, the address can be shared, and the document stays the same."""
    browser.open(f"{address}/")
    browser.run("window.stamp = 1")
    browser.run("document.querySelector('a[data-sort=clean_accuracy]').click()")
    expected = sorted(ROWS, key=lambda row: -float(row["clean_accuracy"] or 0))
    assert browser.run(SHOWN) == [row["model"] for row in expected]
    assert browser.run("document.querySelector('th[aria-sort]').dataset.column") == "clean_accuracy"
    browser.run("document.querySelector('a[data-sort=clean_accuracy]').click()")
    assert browser.run(SHOWN) == [row["model"] for row in reversed(expected)]
    choose_family(browser, "supervised")
    assert browser.run(SHOWN) == ["small_cnn.supervised.digits", "resnet20.supervised.digits"]
    type_filter(browser, "RESNET")
    browser.wait(f"({SHOWN}).length === 1")
    assert browser.run("document.getElementById('count').textContent") == "1"
    type_filter(browser, "zzz")
    browser.wait("!document.querySelector('tr.nothing').hidden")
    shared = browser.run("location.href")
    assert browser.run("window.stamp") == 1
    type_filter(browser, "resnet")
    browser.wait("location.href.includes('q=resnet')")
    shared = browser.run("location.href")
    csv = browser.run(
        "[...document.querySelectorAll('[data-download]')].map(a => a.href).find(a => a.includes('.csv'))"
    )
    assert "family=supervised" in csv
    browser.open(shared)
    assert browser.run(SHOWN) == ["resnet20.supervised.digits"]
    # Loaded with filters the page holds a part of the board; clearing them fetches the rest, still without a reload.
    browser.run("window.stamp = 2")
    choose_family(browser, "")
    type_filter(browser, "")
    browser.wait(f"({SHOWN}).length === {len(ROWS)}")
    assert browser.run("window.stamp") == 2


@pytest.mark.parametrize("column", ["rank", "model", "parameters", "selectivity", "pgd_accuracy_linf"])
def test_the_browser_sorts_as_the_server_does(browser: Browser, address: str, column: str) -> None:
    """The order after a click is that of the page which the link leads to."""
    browser.open(f"{address}/?benchmark=digits")
    for _ in range(2):
        link = browser.run(f"document.querySelector('a[data-sort={column}]').href")
        browser.run(f"document.querySelector('a[data-sort={column}]').click()")
        clicked = browser.run(SHOWN)
        here = browser.run("location.href")
        browser.open(link)
        assert browser.run(SHOWN) == clicked
        assert sorted(here.split("?")[1].split("&")) == sorted(link.split("?")[1].split("&"))


def test_pages_of_a_long_board_do_not_reload(browser: Browser, address: str) -> None:
    """Next and sort on a part of the board ask the server, and the document stays."""
    browser.open(f"{address}/?benchmark=digits&limit=4")
    browser.run("window.stamp = 1")
    browser.run("document.querySelector('a[rel=next]').click()")
    browser.wait(f"({SHOWN}).length === {len(ROWS) - 4}")
    assert "offset=4" in browser.run("location.href")
    browser.run("document.querySelector('a[data-sort=clean_accuracy]').click()")
    browser.wait("!location.href.includes('offset')")
    assert browser.run(f"({SHOWN})[0]") == "resnet20.supervised.digits"
    assert browser.run("window.stamp") == 1


def test_everything_works_without_scripts(browser: Browser, address: str) -> None:
    """Links sort and the form filters when scripts are off; no name of a stranger runs."""
    browser.scripts_off()
    browser.open(f"{address}/")
    assert HOSTILE in browser.run(SHOWN)
    assert browser.run("getComputedStyle(document.querySelector('.controls button')).display") != "none"
    browser.run("document.querySelector('a[data-sort=clean_accuracy]').click()")
    browser.wait("location.href.includes('sort=clean_accuracy') && document.readyState === 'complete'")
    assert browser.run(SHOWN)[0] == "resnet20.supervised.digits"
    browser.run(
        "document.querySelector('[name=q]').value = 'adversarial'; document.querySelector('.controls button').click()"
    )
    browser.wait("location.href.includes('q=adversarial') && document.readyState === 'complete'")
    assert browser.run(SHOWN) == ["small_cnn.adversarial.digits"]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_never_scrolls_sideways(browser: Browser, address: str, width: int, dark: bool) -> None:
    """Wide tables scroll inside themselves, with the model's name staying in sight."""
    browser.size(width, 800, dark=dark)
    for path in ("/", "/models/small_cnn.supervised.digits"):
        browser.open(address + path)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    browser.open(f"{address}/")
    browser.run("document.querySelector('.scroller').scrollLeft = 300")
    left = "document.querySelector('tbody .c-model').getBoundingClientRect().left"
    assert 0 <= browser.run(left) < 100


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast(browser: Browser, address: str, dark: bool) -> None:
    """Every piece of text on the board reaches 4.5 to 1 on its background (WCAG 2.1, 1.4.3)."""
    browser.size(1400, 900, dark=dark)
    browser.open(f"{address}/")
    poor = browser.run(CONTRAST)
    assert poor == []


CONTRAST = """(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim()) continue;
    if (node.closest('.hidden, .skip, [hidden], option, details:not([open])')) continue;
    let opacity = 1;
    for (let n = node; n; n = n.parentElement) opacity *= getComputedStyle(n).opacity;
    const under = back(node);
    const over = parse(getComputedStyle(node).color).slice(0, 3).map((v, i) => v * opacity + under[i] * (1 - opacity));
    const [a, b] = [light(over), light(under)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.add(node.className + ' ' + ratio.toFixed(2));
  }
  return [...poor];
})()"""
