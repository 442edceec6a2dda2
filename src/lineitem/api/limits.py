"""Bounds what a client may send before anything reads it."""

from __future__ import annotations

import json
from typing import Any

BODY_BYTES_MAX = 4 << 20


class BodyLimit:
    """ASGI: answers 413 to a body of more than ``BODY_BYTES_MAX`` bytes, whether its length was announced or not."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has gone
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > BODY_BYTES_MAX:
                await _too_large(send)
                return
        told = False

        async def again() -> Any:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


async def _too_large(send: Any) -> None:
    text = json.dumps({"error_code": 413, "message": f"the body has more than {BODY_BYTES_MAX} bytes"}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": text})
