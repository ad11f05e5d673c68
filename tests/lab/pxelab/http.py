# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP as boot loaders and the installer speak it: GET and HEAD over plain HTTP, strict about Content-Length."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit


class HttpError(Exception):
    """No usable answer. ``status`` is the HTTP status, ``None`` when there was none."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def request(
    url: str,
    *,
    method: str = "GET",
    agent: str = "esx-boot/2.0",
    seconds: float = 20.0,
    need_length: bool = True,
    pause: Callable[[float], None] = time.sleep,
    source: str = "",
) -> tuple[bytes, int]:
    """Fetch a URL; returns the body and the announced length. Follows redirects. Raises ``HttpError``.

    A chunked answer is refused where ``need_length`` is set: mboot fails on one. ``source`` is the address to ask from,
    where the machine has several.
    """
    for _hop in range(5):
        pause(0)
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise HttpError(f"{url}: only http:// is spoken here")
        connection = http.client.HTTPConnection(
            parts.hostname, parts.port or 80, timeout=seconds, source_address=(source, 0) if source else None
        )
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, headers={"User-Agent": agent, "Accept": "*/*"})
            answer = connection.getresponse()
            if answer.status in (301, 302, 307, 308):
                url = urljoin(url, answer.headers.get("Location", ""))
                continue
            body = answer.read()
            if answer.status != 200:
                raise HttpError(f"{url}: {answer.status} {answer.reason}", answer.status)
            length = answer.headers.get("Content-Length")
            if length is None and need_length:
                raise HttpError(f"{url}: the answer has no Content-Length", answer.status)
            return body, int(length or len(body))
        except (OSError, http.client.HTTPException) as error:
            raise HttpError(f"{url}: {error or type(error).__name__}") from error
        finally:
            connection.close()
    raise HttpError(f"{url}: too many redirects")
