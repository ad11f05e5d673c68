# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import datetime
import html.parser
import json
import random
import re
from pathlib import Path

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._detail import read_detail
from ansible_collections.pxemanager.esxi.plugins.module_utils._html import Markup, el, join
from ansible_collections.pxemanager.esxi.plugins.module_utils._mask import mask, masked
from ansible_collections.pxemanager.esxi.plugins.module_utils._pages import (
    duration,
    host_page,
    message_page,
    overview,
)
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import STAGES, ActionResult, Failure
from ansible_collections.pxemanager.esxi.plugins.module_utils._watch import HostView, Page, Query, Usual
from ansible_collections.pxemanager.esxi.tests.support.pxe_server import PxeServer, definition, later
from ansible_collections.pxemanager.esxi.tests.support.watched_hosts import mac_of, status_in

ROOT = Path(__file__).resolve().parents[4]
CSS = ROOT / "roles/pxe_server/files/page.css"
NOW = datetime.datetime(2026, 11, 22, 20, 0, 0, tzinfo=datetime.timezone.utc)
EVIL = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\"' &lt;"


class Elements(html.parser.HTMLParser):
    """The elements of a page; fails where tags do not match."""

    VOID = ("meta", "link", "input", "wbr")

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def status(stage, number=1, **changes):
    found = status_in(stage, f"esx{number:02d}.example.com", mac_of(number), NOW, random.Random(number))
    return dataclasses.replace(found, **changes)


def overview_of(*statuses, query=None, problems=None, site="ber1"):
    query = query or Query(order="stage")
    views = tuple(map(HostView.of, statuses))
    counts = {stage: sum(view.stage == stage for view in views) for stage in STAGES}
    usual = Usual()
    for view in views:
        usual.learn(view)
    return overview(Page(query, views, counts, len(views)), usual, site, "0a1b2c3d-4", NOW, problems or {})


def check(page):
    """What holds for every page."""
    elements = Elements(page)
    assert [attributes.get("src") for attributes in elements.all("script")] == ["/watch/static/page.js"]
    assert not elements.all("style")
    assert not elements.all("img")
    ids = [attributes["id"] for _tag, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        for name in ("href", "src", "action"):
            if name in attributes:
                assert re.match(r"/(?!/)|#", attributes[name]), "outside, or a scheme such as javascript:"
    assert len(elements.all("h1")) == len(elements.all("main")) == 1
    assert elements.all("html") == [{"lang": "en"}]
    for attributes in elements.all("th"):
        assert attributes["scope"] in ("row", "col")
    return elements


# -- texts


@pytest.mark.parametrize(
    "seconds, text",
    [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (5000, "1 h 23 min")]
    + [(86400, "1 d"), (100000, "1 d 3 h"), (1e9, "11,574 d")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_script_says_durations_in_the_same_words():
    # The words, in the order of the branches; the browser's tests see the script at work.
    script = (ROOT / "roles/pxe_server/files/page.js").read_text()
    body = script[script.index("function duration") : script.index("// The server's clock")]
    assert re.findall(r"\} (s|min|h|d)`", body) == ["s", "min", "min", "h", "d", "h", "d"]


def test_text_is_escaped_and_markup_is_not():
    assert el("b", EVIL, title=EVIL).count("<") == 2
    assert el("b", el("i", "x"), ["<", None]) == "<b><i>x</i>&lt;</b>"
    assert el("a", aria_current="page", for_="x", hidden=True, href=None, open=False) == (
        '<a aria-current="page" for="x" hidden></a>'
    )
    assert isinstance(join("a", Markup("<b>")), Markup)


@pytest.mark.parametrize(
    "text, masked",
    [
        (
            "ks=http://10.0.0.1/ks/0123456789abcdef0123456789abcdef/01-aa.cfg x",
            "ks=http://10.0.0.1/ks/(hidden)/01-aa.cfg x",
        ),
        ("/ks/0123", "/ks/(hidden)"),
        ("token esx01~" + "A" * 43, "token esx01~(hidden)"),
        ("~/file-name", "~/file-name"),
        ("tasks/x", "tasks/x"),
    ],
)
def test_what_is_secret_is_masked(text, masked):
    assert mask(text) == masked


# -- all hosts


def test_every_stage_has_a_row():
    page = overview_of(*(status(stage, number) for number, stage in enumerate(STAGES)))
    elements = check(page)
    rows = [attributes for attributes in elements.all("tr") if attributes.get("id")]
    assert [row["id"] for row in rows] == [f"host-esx{number:02d}.example.com" for number in range(6)]
    links = {attributes["href"] for attributes in elements.all("a")}
    assert {f"/watch/hosts/esx{number:02d}.example.com" for number in range(6)} <= links
    assert {f"/watch/?stage={stage}" for stage in STAGES} <= links


def test_progress_is_told_in_words_and_against_the_usual_time():
    page = overview_of(status("ready", 1), status("installing", 2))
    assert re.search(r"<svg[^>]*aria-hidden=.true.", page)
    assert re.search(r"\d+ (s|min) of \d+ min", page)


def test_nothing_that_a_host_says_is_markup():
    statuses = [
        status("installing", 1, message=EVIL),
        status("failed", 2, failure=Failure("install", EVIL)),
        status("ready", 3, image=EVIL),
    ]
    page = overview_of(*statuses, query=Query(text=EVIL), problems={EVIL: EVIL}, site=EVIL)
    elements = check(page)
    assert elements.texts.count(EVIL) >= 4
    assert elements.all("input")[0]["value"] == EVIL


def test_a_token_in_a_message_is_not_shown():
    token = "esx01.example.com~" + "B" * 43
    actions = (ActionResult(token, 1, 1.0),)
    found = masked(status("failed", message=token, failure=Failure("install", token), actions=actions))
    assert "B" * 43 not in str(found.to_json())


def test_an_empty_list_says_why():
    assert "No host is published" in overview_of()
    assert "No host is like that" in overview_of(query=Query(text="x"))


def test_the_pager_keeps_the_filters():
    views = tuple(HostView.of(status("ready", number)) for number in range(2))
    page = Page(Query(text="esx", order="stage", page=2, per_page=2), views, dict.fromkeys(STAGES, 0), 6)
    links = [
        attributes for attributes in check(overview(page, Usual(), "b", "", NOW, {})).all("a") if "rel" in attributes
    ]
    assert [(link["rel"], link["href"]) for link in links] == [
        ("prev", "/watch/?q=esx&per_page=2"),
        ("next", "/watch/?q=esx&page=3&per_page=2"),
    ]


# -- one host


@pytest.fixture
def server(tmp_path):
    return PxeServer(tmp_path)


def page_of(server, events=()):
    detail = read_detail(server.layout, "esx01.example.com")
    return host_page(detail, Usual(), "ber1", "0a1b2c3d-4", later(60), events)


def test_the_boot_files_are_those_behind_the_link_without_the_key(server):
    given = definition()
    server.write_kickstarts(given)
    server.good("armed", given)
    key = server.install().key
    page = page_of(server)
    elements = check(page)
    assert key not in page
    assert "/ks/(hidden)/01-00-50-56-aa-01-01.cfg" in page
    assert "boot → install" in page
    assert len(elements.all("details")) == 8
    for mac in given["macs"]:
        assert mac in page
    server.notify("installing")
    page = page_of(server)
    assert "boot → local" in page
    assert "skip=1" in page
    assert key not in page


def test_a_link_that_says_something_else_than_the_status_is_a_warning(server):
    server.good("published", definition())
    assert "callout" not in page_of(server)
    link = server.layout.mode_link("esx01.example.com")
    link.unlink()
    link.symlink_to("install")
    assert "leads to install" in page_of(server)
    link.unlink()
    assert "no boot mode link" in page_of(server)


def test_actions_certificate_and_events(server):
    server.good("published", definition())
    actions = (ActionResult("ntp", 0, 1.5), ActionResult(EVIL, 3, 70.0), ActionResult("iscsi", 1, 2.0, True))
    found = status("ready", actions=actions, message=EVIL, host="esx01.example.com", mode="local")
    server.layout.status("esx01.example.com").write_text(json.dumps(found.to_json()))
    event = {"at": "2026-11-22T20:00:00Z", "type": "stage", "stage": "ready", "mode": "local", "previous": None}
    page = page_of(server, [{**event, "status": HostView.of(found).to_json()}])
    elements = check(page)
    assert elements.texts.count(EVIL) == 2
    for text in ("failed, ignored", "1.5 s", "1 min", "2046-11-17", "14:21:FB:83"):
        assert text in page


def test_no_such_host(server):
    assert read_detail(server.layout, "esx99.example.com") is None
    assert read_detail(server.layout, "../server") is None
    check(message_page("No such host", EVIL, EVIL))


# -- colours


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_on_every_ground(scheme):
    blocks = re.findall(r":root \{(.*?)\}", CSS.read_text(), re.S)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[scheme == "dark"]))
    for text in ("text", "quiet", "link", *STAGES):
        for ground in ("ground", "surface", "raised", "failed-row", "flash", "failed-ground"):
            if ground == "failed-ground" and text not in ("text", "failed"):
                continue
            assert contrast(colours[text], colours[ground]) >= 4.5, f"{text} on {ground}"
