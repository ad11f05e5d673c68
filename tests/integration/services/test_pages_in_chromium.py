# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages of the real service in a real browser."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

import axe_core_python
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from ansible_collections.pxemanager.esxi.plugins.module_utils._install import Install
from ansible_collections.pxemanager.esxi.plugins.module_utils._status import Status
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import ActionResult
from ansible_collections.pxemanager.esxi.tests.support.armed_hosts import CERTIFICATE, Site
from ansible_collections.pxemanager.esxi.tests.support.browser import browser, installed, prefer
from ansible_collections.pxemanager.esxi.tests.support.watched_hosts import Served, fill, name_of, serving

AXE = (pathlib.Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
NAME, MAC = "esx01.example.com", "00:50:56:aa:bb:01"
EVIL = '<img src=x onerror="window.evil=1"><script>window.evil=1</script></td></table>\'"&amp;'


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture(scope="module")
def driver():
    if not installed():
        pytest.skip("needs Chromium and its driver: Debian's packages chromium and chromium-driver")
    with browser() as opened:
        yield opened


@pytest.fixture(autouse=True)
def clean(driver):
    """No test leaves a mistake in the console, or a preference to the next one."""
    yield
    said = [entry for entry in driver.get_log("browser") if "favicon" not in entry["message"]]
    driver.get("about:blank")
    prefer(driver, "light")
    assert not said


@pytest.fixture
def site(tmp_path) -> Site:
    site = Site(tmp_path, site="ber1")
    for number in (1, 2, 3):
        site.publish(f"esx{number:02d}.example.com", [f"{MAC[:-2]}{number:02d}"], now())
    return site


@pytest.fixture(scope="module")
def crowd(tmp_path_factory) -> t.Iterator[Served]:
    """10,000 hosts, for tests that only look."""
    site = Site(tmp_path_factory.mktemp("crowd"), site="ber1")
    fill(site, 10_000, now())
    with serving(site) as served:
        yield served


def until(driver, condition: t.Callable[[], t.Any]) -> t.Any:
    return WebDriverWait(driver, 15, 0.05).until(lambda _driver: condition())


def live(driver) -> None:
    until(driver, lambda: driver.find_element(By.ID, "live").text == "live")


def row(driver, name: str = NAME) -> str:
    return str(driver.execute_script("return document.getElementById(arguments[0])?.innerText || ''", f"host-{name}"))


def rows(driver) -> int:
    return int(driver.execute_script("return document.querySelectorAll('#hosts tbody tr').length"))


def arm(site: Site, name: str = NAME) -> Status:
    status = site.status(name)
    install = Install.new(name, [MAC], [], None, now(), 3600)
    site.write_status(status.armed(install, now()))
    return site.status(name)


# -- live


def test_a_change_is_seen_without_loading_the_page_again(driver, site):
    with serving(site) as served:
        driver.get(f"{served.url}/watch/")
        live(driver)
        driver.execute_script("window.same = true; document.querySelector('#hosts tbody a').focus()")
        focused = driver.execute_script("return document.activeElement.textContent")
        status = arm(site, focused)
        until(driver, lambda: "armed" in row(driver, focused))
        site.write_status(status.notified("installing", now(), message="the installer has started"))
        until(driver, lambda: "the installer has started" in row(driver, focused))
        assert driver.execute_script("return window.same") is True
        assert driver.execute_script("return document.activeElement.textContent") == focused
        until(driver, lambda: driver.find_element(By.CSS_SELECTOR, ".tile.installing .count").text == "1")
        # A screen reader hears of it, once.
        until(driver, lambda: focused in driver.find_element(By.ID, "said").get_attribute("textContent"))
        # New and removed ones, too.
        site.publish("esx04.example.com", ["00:50:56:aa:bb:04"], now())
        until(driver, lambda: row(driver, "esx04.example.com"))
        site.layout.status("esx04.example.com").unlink()
        until(driver, lambda: not row(driver, "esx04.example.com"))


def test_it_comes_back_after_the_service_was_killed_and_shows_what_it_missed(driver, site):
    with serving(site) as served:
        driver.get(f"{served.url}/watch/")
        live(driver)
        driver.execute_script("window.same = true")
        served.kill()
        until(driver, lambda: driver.find_element(By.ID, "live").text == "reconnecting")
        arm(site)
        served.start()
        until(driver, lambda: "armed" in row(driver))
        live(driver)
        assert driver.execute_script("return window.same") is True
        # That the connection was refused meanwhile is the browser's own remark.
        driver.get_log("browser")


def test_the_page_of_a_host_is_live(driver, site):
    with serving(site) as served:
        driver.get(f"{served.url}/watch/hosts/{NAME}")
        live(driver)
        driver.execute_script("window.same = true; document.querySelector('summary').click()")
        actions = [ActionResult("ntp", 0, 1.5), ActionResult("iscsi", 3, 2.0)]
        status = (
            arm(site).notified("installing", now()).notified("ready", now(), actions=actions, certificate=CERTIFICATE)
        )
        site.write_status(status)
        main = driver.find_element(By.TAG_NAME, "main")
        until(driver, lambda: "iscsi ended with 3" in main.text)
        for text in ("2046-11-17", "Exit code", "1.5 s", "boot → local"):
            assert text in main.text
        assert driver.title.startswith(f"{NAME}: failed")
        assert driver.execute_script("return window.same") is True
        site.layout.status(NAME).unlink()
        until(driver, lambda: "No such host" in driver.find_element(By.TAG_NAME, "main").text)
        driver.get_log("browser")  # the 404 of a host that is gone


# -- many


def test_ten_thousand_hosts_are_searched_and_filtered(driver, crowd):
    driver.get(f"{crowd.url}/watch/")
    assert rows(driver) == 100
    assert driver.find_element(By.CSS_SELECTOR, ".tile.every .count").text == "10,000"
    driver.execute_script("window.same = true")
    search = driver.find_element(By.NAME, "q")
    search.send_keys("esx09876")
    until(driver, lambda: rows(driver) == 1)
    assert row(driver, name_of(9876))
    assert driver.current_url.endswith("/watch/?q=esx09876")
    search.send_keys(Keys.CONTROL, "a")
    search.send_keys(Keys.DELETE)
    until(driver, lambda: rows(driver) == 100)
    driver.find_element(By.CSS_SELECTOR, "select[name=stage] option[value=failed]").click()
    until(
        driver, lambda: driver.execute_script("return document.querySelector('#hosts tbody tr:not(.failed)') === null")
    )
    assert driver.execute_script("return window.same") is True
    # Tiles and pages are links.
    driver.find_element(By.CSS_SELECTOR, ".tile.ready").click()
    until(driver, lambda: "stage=ready" in driver.current_url)
    driver.find_element(By.LINK_TEXT, "Next").click()
    until(driver, lambda: "page=2" in driver.current_url)
    assert driver.find_element(By.CLASS_NAME, "shown").text.startswith("101–200 of 9,")


# -- everyone


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(driver, crowd, scheme):
    failed = crowd.get("/api/v1/hosts?stage=failed&q=ended").json["hosts"][0]["host"]
    prefer(driver, scheme)
    # A few rows are all rows: axe looks at each, which takes it seconds.
    few = "per_page=4"
    for path in (f"/watch/?{few}", f"/watch/?{few}&stage=active", "/watch/?q=nothing", f"/watch/hosts/{failed}"):
        driver.get(f"{crowd.url}{path}")
        ground = driver.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
        assert (ground == "rgb(14, 18, 23)") is (scheme == "dark")
        driver.execute_script(AXE)
        found = driver.execute_async_script("const done = arguments[0]; axe.run().then(done)")
        assert len(found["passes"]) > 20
        assert [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]] == [], path


def test_everything_can_be_done_with_the_keyboard(driver, site):
    def press(*keys: str) -> None:
        driver.switch_to.active_element.send_keys(*keys)

    def focused(script: str) -> t.Any:
        return driver.execute_script(f"return document.activeElement.{script}")

    with serving(site) as served:
        driver.get(f"{served.url}/watch/")
        press(Keys.TAB)
        assert focused("className") == "skip"
        assert driver.execute_script("return document.activeElement.getBoundingClientRect().top") >= 0
        press(Keys.ENTER)
        until(driver, lambda: focused("id") == "main")
        seen = []
        for _step in range(30):
            press(Keys.TAB)
            seen.append(focused("name") or focused("className") or focused("textContent"))
            outline = driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", seen[-1]
            if seen[-1] == NAME:
                break
        assert seen[:7] == ["tile every"] + [
            f"tile {s} none" for s in ("failed", "armed", "installing", "installed", "ready")
        ] + ["tile defined"]
        assert {"q", "stage", "mode", "site", "order"} <= set(seen)
        assert seen[-1] == NAME
        press(Keys.ENTER)
        until(driver, lambda: driver.current_url.endswith(f"/watch/hosts/{NAME}"))
        assert driver.find_element(By.TAG_NAME, "h1").text == NAME


def test_nothing_that_a_host_says_is_run(driver, site):
    status = arm(site)
    site.write_status(status.notified("installing", now(), message=EVIL))
    failed = arm(site, "esx02.example.com").notified("installing", now())
    site.write_status(failed.notified("ready", now(), actions=[ActionResult(EVIL, 1, 1.0)], message=EVIL))
    (site.layout.mode_dir(NAME, "local") / "01-00-50-56-aa-bb-01.ipxe").write_text(EVIL)
    # A file, not a host: the folder is writable for the service's group only, and still.
    (site.layout.status_dir / "<img src=x onerror=evil=1>.json").write_text("{}")
    with serving(site) as served:
        for path in (
            "/watch/",
            f"/watch/hosts/{NAME}",
            "/watch/hosts/esx02.example.com",
            "/watch/?q=%3Cimg%20src%3Dx%20onerror%3Devil%3D1%3E",
        ):
            driver.get(f"{served.url}{path}")
            live(driver)
            assert driver.execute_script("return window.evil === undefined && !document.querySelector('main img')"), (
                path
            )
        driver.get(f"{served.url}/watch/")
        live(driver)
        # Also when it comes while the page is open.
        site.write_status(site.status(NAME).notified("installed", now(), message=f"2 {EVIL}"))
        until(driver, lambda: "2 <img" in row(driver))
        assert driver.execute_script("return window.evil === undefined && !document.querySelector('main img')")


def test_the_policy_forbids_scripts_of_others(driver, site):
    with serving(site) as served:
        driver.get(f"{served.url}/watch/")
        driver.execute_script(
            "const s = document.createElement('script'); s.textContent = 'window.evil = 1'; document.body.append(s)"
        )
        assert driver.execute_script("return window.evil") is None
        said = [entry["message"] for entry in driver.get_log("browser")]
        assert len(said) == 1
        assert "Content Security Policy" in said[0]
