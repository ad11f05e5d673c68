# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to the collection pxemanager.esxi: the pages about all hosts and about one, as HTML.

Pure. The pages are whole without JavaScript: filters are a form, parts are links. With it, page.js asks for the same
page again when an event says that something changed, and puts what differs in place. So there is one place that knows
how something looks, and one that escapes it.

Style sheet and script are files of their own and nothing has a style attribute: the Content-Security-Policy forbids
both. What a drawing shows is therefore in attributes of SVG.
"""

from __future__ import annotations

import datetime
import typing as t
import urllib.parse

from ansible_collections.pxemanager.esxi.plugins.module_utils._detail import Detail
from ansible_collections.pxemanager.esxi.plugins.module_utils._html import Child, Markup, document, el, join
from ansible_collections.pxemanager.esxi.plugins.module_utils._mask import mask
from ansible_collections.pxemanager.esxi.plugins.module_utils._status_file import MODES, STAGES, Stage, parse_timestamp
from ansible_collections.pxemanager.esxi.plugins.module_utils._watch import (
    UNDER_WAY,
    HostView,
    Page,
    Query,
    Usual,
    stage_seconds,
)

__all__ = ("BASE", "duration", "host_page", "message_page", "overview")

#: Where the pages are; the role's nginx passes on what is below.
BASE: t.Final = "/watch/"

_TILES: t.Final[tuple[Stage, ...]] = ("failed", "armed", "installing", "installed", "ready", "defined")
_MEANING: t.Final[dict[Stage, str]] = {
    "defined": "published, boots its disk",
    "armed": "its next network boot installs",
    "installing": "the installer is running",
    "installed": "rebooting into its first boot",
    "ready": "post actions have run",
    "failed": "needs a look",
}
_ORDERS: t.Final = (("stage", "What needs attention"), ("name", "Name"), ("age", "Latest change"))


# -- texts --------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """A time for people, in its two largest units: `42 s`, `4 min`, `1 h 20 min`, `3 d 4 h`. page.js says it alike."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    if days >= 100:
        return f"{days:,} d"
    return f"{days} d {hours} h" if hours else f"{days} d"


def _age(at: str, now: datetime.datetime) -> Markup:
    """How long ago something was; page.js keeps it going."""
    moment = parse_timestamp(at)
    return el(
        "time",
        duration((now - moment).total_seconds()),
        datetime=at,
        data_age=True,
        title=moment.strftime("%Y-%m-%d %H:%M:%S UTC"),
    )


def _clock(at: str) -> Markup:
    return el("time", parse_timestamp(at).strftime("%Y-%m-%d %H:%M:%S"), datetime=at)


def _number(value: int) -> str:
    return f"{value:,}"


def _stage(stage: Stage) -> Markup:
    return el("span", stage, class_=f"stage {stage}", title=_MEANING[stage])


def _mode(mode: str) -> Markup:
    return el("span", mode, class_=f"mode {mode}")


def host_url(name: str) -> str:
    """Path of a host's page."""
    return f"{BASE}hosts/{urllib.parse.quote(name, safe='')}"


def _url(query: Query, **changes: object) -> str:
    parameters = query.parameters(**changes)
    return f"{BASE}?{urllib.parse.urlencode(parameters)}" if parameters else BASE


# -- progress -----------------------------------------------------------------------------------------------------

# Of one of the three parts of the bar, in its own units.
_PART, _GAP, _HEIGHT = 40, 3, 8


def _bar(view: HostView, share: float | None, late: bool) -> Markup:
    """Three parts, one for each stage on the way to ready. Says nothing that the text beside it does not say."""
    reached = [stage for stage in UNDER_WAY if stage in view.stages]
    shapes: list[Markup] = []
    for place, stage in enumerate(UNDER_WAY):
        x = place * (_PART + _GAP)
        kind = "todo"
        if view.stage == "ready":
            kind = "done"
        elif view.stage == "failed" and reached:
            kind = "bad" if stage == reached[-1] else "done" if stage in reached else "todo"
        elif view.under_way and place < UNDER_WAY.index(view.stage):
            kind = "done"
        shapes.append(el("rect", x=x, y=0, width=_PART, height=_HEIGHT, rx=2, class_=kind))
        if view.stage == stage:
            width = _PART if share is None else max(3, round(_PART * share))
            kind = "unknown" if share is None else "late" if late else "now"
            shapes.append(el("rect", x=x, y=0, width=width, height=_HEIGHT, rx=2, class_=kind))
    whole = 3 * _PART + 2 * _GAP
    return el(
        "svg", shapes, class_="bar", viewBox=f"0 0 {whole} {_HEIGHT}", width=whole, height=_HEIGHT, aria_hidden="true"
    )


def _progress(view: HostView, usual: Usual, now: datetime.datetime) -> Markup:
    if view.stage == "defined":
        return el("span", "–", class_="quiet")
    if view.stage == "ready":
        took = _took(view)
        text = join() if took is None else join("in ", duration(took))
        return el("span", _bar(view, None, False), el("span", text), class_="progress")
    if view.stage == "failed":
        text = join(_failed_where(view))
        return el("span", _bar(view, None, False), el("span", text), class_="progress")
    progress = usual.progress(view, now)
    if progress is None:
        return Markup("")
    if progress.usual is None:
        text = join(duration(progress.elapsed))
    else:
        text = join(duration(progress.elapsed), " of ", duration(progress.usual))
        if progress.late:
            text = join(text, " ", el("strong", "late", class_="late"))
    return el("span", _bar(view, progress.share, progress.late), el("span", text), class_="progress")


def _failed_where(view: HostView) -> str:
    kind = "" if view.failure is None else view.failure.kind
    reached = [stage for stage in UNDER_WAY if stage in view.stages]
    if kind == "post_action":
        return "in post actions"
    return f"while {reached[-1]}" if reached else ""


def _took(view: HostView) -> float | None:
    begun, ended = view.stages.get("installing", view.stages.get("armed")), view.stages.get("ready")
    if begun is None or ended is None:
        return None
    return (parse_timestamp(ended) - parse_timestamp(begun)).total_seconds()


# -- the frame ----------------------------------------------------------------------------------------------------


def _frame(title: str, site: str, cursor: str, main: Markup, *, host: str | None = None, crumb: Child = None) -> str:
    static = f"{BASE}static/"
    body = el(
        "body",
        el("a", "Skip to the content", href="#main", class_="skip"),
        el(
            "header",
            el(
                "nav",
                el("a", el("span", class_="logo", aria_hidden="true"), "ESXi installs", href=BASE, class_="brand"),
                el("span", site, class_="site", title="The site of this PXE server"),
                crumb,
                aria_label="Where you are",
            ),
            el("span", "not live", id="live", class_="live", role="status"),
        ),
        el("main", main, id="main", tabindex="-1"),
        el(
            "footer",
            el("p", "Times are UTC. This page only shows; installs are asked for with Ansible."),
            el(
                "p",
                el("a", "JSON", href="/api/v1/hosts"),
                " · ",
                el("a", "Metrics", href="/metrics"),
            ),
        ),
        el("p", id="said", class_="unseen", aria_live="polite"),
        data_cursor=cursor,
        data_host=host,
    )
    head = join(
        el("link", rel="icon", href=f"{static}icon.svg", type="image/svg+xml"),
        el("link", rel="stylesheet", href=f"{static}page.css"),
        el("script", src=f"{static}page.js", defer=True),
    )
    return document(title, head, body)


def message_page(title: str, text: str, site: str) -> str:
    """A page that says why there is no other one."""
    main = join(el("h1", title), el("p", text), el("p", el("a", "All hosts", href=BASE)))
    return _frame(f"{title} · {site}", site, "", main)


# -- all hosts ----------------------------------------------------------------------------------------------------


def overview(
    page: Page, usual: Usual, site: str, cursor: str, now: datetime.datetime, problems: t.Mapping[str, str]
) -> str:
    """The page about all hosts."""
    failed = page.counts["failed"]
    main = join(
        el("h1", "Hosts", class_="unseen"),
        _tiles(page),
        _filters(page.query, site),
        _problems(problems),
        _table(page, usual, site, now),
    )
    title = f"{_number(failed)} failed · {site}" if failed else f"Hosts · {site}"
    return _frame(f"{title} · ESXi installs", site, cursor, main)


def _tiles(page: Page) -> Markup:
    every = sum(page.counts.values())
    query = page.query

    def tile(word: str, count: int, stage: str) -> Markup:
        return el(
            "li",
            el(
                "a",
                el("span", _number(count), class_="count"),
                " ",
                el("span", word, class_="word"),
                href=_url(query, stage=stage, page=1),
                class_=f"tile {stage or 'every'}" + (" none" if not count else ""),
                aria_current="true" if query.stage == stage else None,
            ),
        )

    tiles = [tile("all", every, "")] + [tile(stage, page.counts[stage], stage) for stage in _TILES]
    return el("nav", el("ul", tiles, class_="tiles"), id="tiles", aria_label="Hosts by stage")


def _filters(query: Query, site: str) -> Markup:
    def select(name: str, label: str, chosen: str, options: t.Iterable[tuple[str, str]]) -> Markup:
        items = [el("option", word, value=value, selected=value == chosen) for value, word in options]
        return el("label", el("span", label), el("select", items, name=name))

    stages = [("", "Any"), ("active", "Under way"), *((stage, stage.capitalize()) for stage in STAGES)]
    return el(
        "form",
        el(
            "label",
            el("span", "Search"),
            el(
                "input",
                type="search",
                name="q",
                value=query.text,
                maxlength=200,
                placeholder="name, MAC, image, message",
                autocomplete="off",
                spellcheck="false",
            ),
            class_="wide",
        ),
        select("stage", "Stage", query.stage, stages),
        select("mode", "Boot mode", query.mode, [("", "Any"), *((mode, mode.capitalize()) for mode in MODES)]),
        select("site", "Site", query.site, [("", "All"), (site, site)]),
        select("order", "Order by", query.order, _ORDERS),
        el("button", "Show", type="submit"),
        el("a", "Clear", href=BASE, class_="button"),
        method="get",
        action=BASE,
        id="filters",
        role="search",
        aria_label="Filter the hosts",
    )


def _problems(problems: t.Mapping[str, str]) -> Markup:
    named = sorted(problems.items())[:3]
    more = len(problems) - len(named)
    items = [el("li", el("strong", name), ": ", mask(reason)) for name, reason in named]
    if more > 0:
        items.append(el("li", f"and {_number(more)} more"))
    callout = (
        el("div", el("p", "Status files that cannot be read:"), el("ul", items), class_="callout bad")
        if named
        else None
    )
    return el("div", callout, id="problems")


def _table(page: Page, usual: Usual, site: str, now: datetime.datetime) -> Markup:
    query = page.query
    if not page.total:
        nothing = any((query.text, query.stage, query.mode, query.site))
        text = "No host is like that." if nothing else "No host is published on this PXE server yet."
        return el("section", el("p", text, class_="empty"), id="hosts", aria_label="Hosts")
    first = (query.page - 1) * query.per_page + 1
    shown = f"{_number(first)}–{_number(first + len(page.views) - 1)} of {_number(page.total)}"
    heads = [
        el("th", word, scope="col", class_=kind)
        for word, kind in (
            ("Host", None),
            ("Site", None),
            ("Mode", None),
            ("Stage", None),
            ("Progress", None),
            ("Age", "right"),
            ("Last message", "grow"),
        )
    ]
    rows = [_row(view, usual, site, now) for view in page.views]
    return el(
        "section",
        el(
            "div",
            el(
                "table",
                el("caption", f"Hosts {shown}", class_="unseen"),
                el("thead", el("tr", heads)),
                el("tbody", rows),
            ),
            class_="scroll",
            tabindex=0,
            role="region",
            aria_label="Table of hosts",
        ),
        _pager(page, shown),
        id="hosts",
        aria_label="Hosts",
        data_active=str(any(view.under_way for view in page.views)).lower(),
    )


def _row(view: HostView, usual: Usual, site: str, now: datetime.datetime) -> Markup:
    return el(
        "tr",
        el(
            "th",
            el("a", view.name, href=host_url(view.name)),
            el("span", view.image or "no image", class_="sub"),
            scope="row",
        ),
        el("td", site),
        el("td", _mode(view.mode)),
        el("td", _stage(view.stage)),
        el("td", _progress(view, usual, now)),
        el("td", _age(view.since, now), class_="right"),
        el("td", _said(view), class_="grow"),
        id=f"host-{view.name}",
        class_=view.stage,
        data_version=f"{view.stage} {view.mode} {view.updated}",
    )


def _said(view: HostView) -> Markup:
    if view.said:
        return el("span", view.said, class_="message")
    return el("span", _MEANING[view.stage], class_="quiet")


def _pager(page: Page, shown: str) -> Markup:
    query = page.query

    def link(word: str, number: int, rel: str) -> Markup:
        if 1 <= number <= page.pages and number != query.page:
            return el("a", word, href=_url(query, page=number), rel=rel, class_="button")
        return el("span", word, class_="button off")

    return el(
        "nav",
        link("Previous", query.page - 1, "prev"),
        el("span", shown, class_="shown"),
        link("Next", query.page + 1, "next"),
        class_="pager",
        aria_label="Pages",
    )


# -- one host -----------------------------------------------------------------------------------------------------


def host_page(
    detail: Detail,
    usual: Usual,
    site: str,
    cursor: str,
    now: datetime.datetime,
    events: t.Sequence[t.Mapping[str, t.Any]],
) -> str:
    """The page about one host.

    :arg events: its newest events, the newest first, as :mod:`_events` writes them.
    """
    status = detail.status
    view = HostView.of(status)
    main = join(
        el(
            "div",
            el("h1", status.host),
            el("p", _stage(view.stage), " ", _mode(view.mode), " ", el("span", _MEANING[view.stage], class_="quiet")),
            class_="title",
            id="title",
        ),
        el("div", _warnings(detail), id="warnings"),
        el(
            "div",
            el(
                "div",
                _section("timeline", "Time line", _timeline(view, usual, now)),
                _section("actions", "Post actions", _actions(detail)),
                _section("messages", "Last messages", _messages(events)),
            ),
            el("div", _section("facts", "Facts", _facts(detail, now)), _section("boot", "Boot files", _boot(detail))),
            class_="columns",
        ),
    )
    crumb = el("span", status.host, class_="crumb", aria_current="page")
    title = f"{status.host}: {view.stage} · ESXi installs"
    return _frame(title, site, cursor, main, host=status.host, crumb=crumb)


def _section(name: str, title: str, content: Markup) -> Markup:
    return el("section", el("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")


def _warnings(detail: Detail) -> Markup:
    status = detail.status
    found: list[Markup] = []
    if status.failure is not None:
        found.append(el("p", el("strong", "Failed: "), status.failure.reason, class_="callout bad"))
    if detail.mode is None:
        found.append(el("p", "The host has no boot mode link: it is not in the boot tree.", class_="callout bad"))
    elif detail.mode != status.mode:
        text = f"The status says {status.mode}, but the link that machines follow leads to {detail.mode}."
        found.append(el("p", text, class_="callout bad"))
    return join(found)


def _timeline(view: HostView, usual: Usual, now: datetime.datetime) -> Markup:
    took = stage_seconds(view)
    items: list[Markup] = []
    reached = [stage for stage in STAGES if stage in view.stages]
    for stage in reached:
        note: Markup | str = ""
        usually = usual.seconds(stage)
        if stage in took:
            note = f"took {duration(took[stage])}"
        elif stage == view.stage and view.under_way:
            note = join("for ", _age(view.stages[stage], now))
        if note and usually is not None:
            note = join(note, f", usually {duration(usually)}")
        items.append(
            el(
                "li",
                _stage(stage),
                _clock(view.stages[stage]),
                el("span", note, class_="quiet") if note else None,
                class_=f"{stage} now" if stage == view.stage else stage,
            )
        )
    if view.under_way:
        for stage in (*UNDER_WAY[UNDER_WAY.index(view.stage) + 1 :], "ready"):
            items.append(
                el("li", el("span", stage, class_="stage"), el("span", "to come", class_="quiet"), class_="todo")
            )
    return join(el("div", _progress(view, usual, now), class_="over"), el("ol", items, class_="timeline"))


def _actions(detail: Detail) -> Markup:
    actions = detail.status.actions
    progress = detail.status.progress
    note: Markup | None = None
    if progress is not None:
        doing = "the host restarts now" if progress.rebooting else "the host is at the next one"
        note = el("p", f"{len(actions)} of {progress.total} are done, {doing}.")
    if not actions:
        return note or el("p", "None have reported.", class_="quiet")
    rows = []
    for action in actions:
        if action.rc == 0:
            word, kind = "ok", "ready"
        elif action.ignored:
            word, kind = "failed, ignored", "armed"
        else:
            word, kind = "failed", "failed"
        rows.append(
            el(
                "tr",
                el("th", action.name, scope="row"),
                el("td", el("span", word, class_=f"stage {kind}")),
                el("td", str(action.rc), class_="right"),
                el(
                    "td", f"{action.seconds:.1f} s" if action.seconds < 60 else duration(action.seconds), class_="right"
                ),
            )
        )
    heads = el(
        "tr",
        el("th", "Action", scope="col"),
        el("th", "Result", scope="col"),
        el("th", "Exit code", scope="col", class_="right"),
        el("th", "Took", scope="col", class_="right"),
    )
    table = el(
        "table", el("caption", "Post actions", class_="unseen"), el("thead", heads), el("tbody", rows), class_="small"
    )
    return join(note or "", _scrolls(table, "Table of post actions"))


def _scrolls(content: Markup, label: str) -> Markup:
    return el("div", content, class_="scroll", tabindex=0, role="region", aria_label=label)


def _messages(events: t.Sequence[t.Mapping[str, t.Any]]) -> Markup:
    if not events:
        return el("p", "Nothing has happened since this log was begun.", class_="quiet")
    items = []
    for event in events:
        status = event.get("status") or {}
        failure = status.get("failure") or {}
        stage = event.get("stage")
        current = stage == status.get("stage")
        said = str(failure.get("reason") or status.get("message") or "") if current else ""
        items.append(
            el(
                "li",
                _clock(str(event["at"])),
                _stage(stage) if stage in _MEANING else None,
                el("span", _happened(event), class_="quiet"),
                el("span", said, class_="message") if said else None,
            )
        )
    return el("ol", items, class_="messages")


def _happened(event: t.Mapping[str, t.Any]) -> str:
    kind = event.get("type")
    if kind == "published":
        return "published"
    if kind == "removed":
        return "removed"
    status, previous = event.get("status") or {}, event.get("previous") or {}
    if kind == "changed" and status.get("finished"):
        return "finished by the controller"
    if kind == "changed" and status.get("kickstart_at") == status.get("updated"):
        return "fetched its kickstart"
    if previous.get("mode") != event.get("mode"):
        return f"boot mode {event.get('mode')}"
    return "" if kind == "stage" else "changed"


def _facts(detail: Detail, now: datetime.datetime) -> Markup:
    status = detail.status
    pairs: list[tuple[str, Child]] = [
        ("Image", status.image or "none"),
        ("Install", el("code", status.install) if status.install else "none yet"),
    ]
    if status.request:
        pairs.append(("Asked for as", status.request))
    if status.expires:
        pairs.append(("Arming expires", _clock(status.expires)))
    if detail.address:
        pairs.append(("Address", el("code", detail.address)))
    if detail.firmware:
        pairs.append(("Firmware", detail.firmware))
    macs = detail.macs or tuple(mac for mac in (status.booted_mac,) if mac)
    if macs:
        items = [
            el("li", el("code", mac), el("span", "booted", class_="tag") if mac == status.booted_mac else None)
            for mac in macs
        ]
        pairs.append(("MAC addresses", el("ul", items, class_="plain")))
    if status.kickstart is not None:
        fetched = join(_clock(status.kickstart.at), " by ", el("code", status.kickstart.address))
        pairs.append(("Kickstart fetched", fetched))
    pairs.append(("Finished", _clock(status.finished) if status.finished else "not yet"))
    if status.certificate is not None:
        pairs += _certificate(detail, now)
    return el("dl", [join(el("dt", word), el("dd", value)) for word, value in pairs])


def _certificate(detail: Detail, now: datetime.datetime) -> list[tuple[str, Child]]:
    certificate = detail.certificate
    if certificate is None:
        return [("Certificate", "cannot be read")]
    left = (certificate.not_after - now).total_seconds()
    until = certificate.not_after.strftime("%Y-%m-%d")
    expiry = join(until, el("span", f" in {duration(left)}" if left > 0 else " expired", class_="quiet"))
    return [
        ("Certificate until", expiry),
        # In two halves, which may stand below each other.
        ("SHA-256", el("code", certificate.sha256[:48], el("wbr"), certificate.sha256[48:], class_="print")),
        ("SHA-1", el("code", certificate.sha1, class_="print")),
    ]


def _boot(detail: Detail) -> Markup:
    if detail.mode is None:
        return el("p", "None.", class_="quiet")
    lead = el("p", "Served now, behind ", el("code", f"boot → {detail.mode}"), ". Keys are hidden.", class_="quiet")
    files = [
        el(
            "details",
            el("summary", el("code", file.path)),
            el("pre", file.text, tabindex=0, role="region", aria_label=file.path),
            id=f"file-{file.path}",
            open=place == 0,
        )
        for place, file in enumerate(detail.files)
    ]
    return join(lead, files)
