/*
Copyright (c) 2026 The pxemanager.esxi authors
GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
*/
// Keeps a page up to date. The page is whole without this; all that is here is to ask for it again when an event says
// that something changed, and to put in place what differs. What it looks like is the server's business alone.
"use strict";

(() => {
  // Milliseconds.
  const GATHER = 250; // what comes together is shown together
  const PACE = 1000; // at most one request in this time, however much happens
  const TYPING = 150;
  const TICK = 5000;
  const AGAIN = 30000; // progress goes on while nothing happens
  const QUIET = 5000; // a screen reader is told no more often than this

  const body = document.body;
  const live = document.getElementById("live");
  const said = document.getElementById("said");
  const form = document.getElementById("filters");
  const host = body.dataset.host || "";
  let cursor = body.dataset.cursor;
  let source = null;
  let asked = 0;
  let timer = 0;
  let request = null;
  let happened = new Map();
  let saidAt = 0;

  // -- how long ago, in the words of _pages.py

  function duration(seconds) {
    const whole = Math.max(0, Math.floor(seconds));
    if (whole < 60) return `${whole} s`;
    const minutes = Math.floor(whole / 60);
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
    const days = Math.floor(hours / 24);
    if (days >= 100) return `${days.toLocaleString("en")} d`;
    return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
  }

  // The server's clock is what the times are of; a reader's may be wrong.
  let ahead = 0;

  function tick() {
    const now = (Date.now() + ahead) / 1000;
    for (const element of document.querySelectorAll("time[data-age]")) {
      const text = duration(now - Date.parse(element.dateTime) / 1000);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  // -- putting in place what differs

  function key(node) {
    return node.nodeType === Node.ELEMENT_NODE ? node.id : "";
  }

  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    const flash = old.dataset.version && old.dataset.version !== fresh.dataset.version;
    for (const { name, value } of [...fresh.attributes]) {
      if (name === "open") continue; // the reader's choice
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    children(old, fresh);
    if (flash) {
      old.classList.remove("fresh");
      void old.offsetWidth; // or a flash that is under way would not begin anew
      old.classList.add("fresh");
    }
  }

  function children(old, fresh) {
    const kept = new Map();
    for (const child of old.childNodes) if (key(child)) kept.set(key(child), child);
    let place = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      const same = key(child) && kept.get(key(child));
      if (same && same !== place) old.insertBefore(same, place);
      else if (!same && (!place || key(place) !== key(child))) {
        old.insertBefore(child, place);
        continue;
      }
      const here = same || place;
      place = here.nextSibling;
      morph(here, child);
    }
    while (place) {
      const following = place.nextSibling;
      place.remove();
      place = following;
    }
  }

  // -- asking again

  function soon(delay) {
    if (timer) return;
    timer = setTimeout(refresh, Math.max(delay, asked + PACE - Date.now()));
  }

  async function refresh() {
    clearTimeout(timer);
    timer = 0;
    asked = Date.now();
    if (request) request.abort();
    const mine = new AbortController();
    request = mine;
    try {
      const answer = await fetch(location.href, { signal: mine.signal, cache: "no-store" });
      const date = Date.parse(answer.headers.get("Date") || "");
      const text = await answer.text();
      if (mine !== request) return;
      if (date && Math.abs(date - Date.now()) > 2000) ahead = date - Date.now();
      const fresh = new DOMParser().parseFromString(text, "text/html");
      document.title = fresh.title;
      if (host && !fresh.body.dataset.host) {
        morph(document.getElementById("main"), fresh.getElementById("main"));
      } else {
        const parts = host ? ["title", "warnings", "timeline", "actions", "messages", "facts", "boot"] : ["tiles", "problems", "hosts"];
        for (const part of parts) {
          const old = document.getElementById(part);
          const now = fresh.getElementById(part);
          if (old && now) morph(old, now);
        }
      }
      tick();
      tell();
    } catch (error) {
      if (error.name !== "AbortError") state("off", "no connection");
    } finally {
      if (mine === request) request = null;
    }
  }

  function tell() {
    if (!happened.size || Date.now() - saidAt < QUIET) return;
    saidAt = Date.now();
    const names = [...happened].slice(0, 3).map(([name, what]) => `${name}: ${what}`);
    said.textContent = happened.size > 3 ? `${happened.size} hosts changed` : names.join(", ");
    happened = new Map();
  }

  // -- events

  function state(kind, text) {
    if (live.textContent !== text) live.textContent = text;
    live.className = `live ${kind}`;
  }

  function listen() {
    if (source || !cursor) return;
    const parameters = new URLSearchParams({ after: cursor });
    if (host) parameters.set("host", host);
    source = new EventSource(`/api/v1/events?${parameters}`);
    const at = (event) => {
      if (event.lastEventId) cursor = event.lastEventId;
    };
    source.addEventListener("hello", (event) => {
      at(event);
      state("on", "live");
    });
    source.addEventListener("host", (event) => {
      at(event);
      const news = JSON.parse(event.data);
      happened.set(news.host, news.type === "removed" ? "removed" : news.stage);
      soon(GATHER);
    });
    source.addEventListener("reset", (event) => {
      at(event);
      soon(GATHER);
    });
    source.addEventListener("error", () => {
      state("off", "reconnecting");
      if (source && source.readyState === EventSource.CLOSED) {
        // The server said no, for instance because it has just started.
        source = null;
        setTimeout(listen, 3000);
      }
    });
  }

  function pause() {
    // A browser has six connections to a server for all its tabs: none that nobody looks at keeps one.
    if (source) source.close();
    source = null;
    state("", "paused");
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) pause();
    else {
      listen();
      soon(0);
    }
  });
  addEventListener("pagehide", pause);
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      listen();
      soon(0);
    }
  });

  // -- filters

  if (form) {
    let typing = 0;
    const apply = () => {
      const parameters = new URLSearchParams();
      for (const [name, value] of new FormData(form)) {
        if (value && !(name === "order" && value === "stage")) parameters.set(name, value);
      }
      history.replaceState(null, "", `${form.getAttribute("action")}${parameters.size ? "?" : ""}${parameters}`);
      refresh();
    };
    for (const kind of ["input", "change"]) {
      form.addEventListener(kind, () => {
        clearTimeout(typing);
        typing = setTimeout(apply, TYPING);
      });
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(typing);
      apply();
    });
  }

  setInterval(tick, TICK);
  setInterval(() => {
    const hosts = document.getElementById("hosts");
    if (!document.hidden && (host || (hosts && hosts.dataset.active === "true"))) soon(0);
    tell();
  }, AGAIN);
  if (!document.hidden) listen();
})();
