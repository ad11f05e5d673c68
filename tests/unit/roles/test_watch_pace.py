# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""While many hosts report, whoever watches leaves them the processor, and forgets none."""

from __future__ import annotations

import asyncio
import importlib.util
import pathlib
import typing as t

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig

WATCH = pathlib.Path(__file__).resolve().parents[3] / "roles" / "pxe_server" / "files" / "watch.py"


def test_a_look_takes_a_part_of_the_hosts_that_reported_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    spec = importlib.util.spec_from_file_location("watch_of_the_role", WATCH)
    assert spec is not None and spec.loader is not None
    module: t.Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_INTERVAL", 0.01)
    watch = module.Watch(ServerConfig(address="192.0.2.1"), lambda *_words, **_fields: None)
    looks: list[list[str]] = []
    monkeypatch.setattr(watch, "_look", lambda touched: looks.append(list(touched)))
    hosts = [f"esx{number}" for number in range(250)]

    async def run() -> None:
        watch.expired(hosts)
        task = asyncio.ensure_future(watch.run())
        for _attempt in range(500):
            await asyncio.sleep(0.01)
            if sum(map(len, looks)) >= len(hosts):
                break
        watch.stop()
        await task

    asyncio.run(run())
    watch.close()
    assert [name for look in looks for name in look] == hosts
    assert max(map(len, looks)) == 100
