"""A WebSocket of a page, as far as tests need one."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from typing import Any, Optional

#: How long tests wait for what must happen, in seconds.
PATIENCE = 60
ORIGIN = "https://app.example.com"
#: A declared route, whose refusals are told in a close frame, and one whose refusals have a status.
PATH, EVENTS_PATH = "/ws/report/7/", "/ws/events"
PROTOCOL = "orgcast.v1"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class Closed(Exception):
    """The server has closed the socket."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


class Refused(Exception):
    """The server has answered the handshake with another status."""

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(status, headers)
        self.status, self.headers = status, headers


class Page:
    """An open socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int, cookie: str, path: str = PATH, protocol: str = "") -> Page:
        """Opens a socket with a Cookie header, or raises Refused."""
        return await asyncio.wait_for(cls._open(port, cookie, path, protocol), PATIENCE)

    @classmethod
    async def _open(cls, port: int, cookie: str, path: str, protocol: str) -> Page:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Origin: {ORIGIN}",
            f"Cookie: {cookie}",
            *([f"Sec-WebSocket-Protocol: {protocol}"] if protocol else []),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(head[0].split()[1])
        if status != 101:
            writer.close()
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            raise Refused(status, headers)
        return cls(reader, writer)

    async def next(self) -> str:
        """Returns the next text, or raises Closed."""
        return await asyncio.wait_for(self._next(), PATIENCE)

    async def _next(self) -> str:
        while True:
            first, second = await self._reader.readexactly(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
            payload = await self._reader.readexactly(length)
            opcode = first & 0x0F
            if opcode == _TEXT:
                return payload.decode()
            if opcode == _PING:
                self._write(_PONG, payload)
            elif opcode == _CLOSE:
                self._write(_CLOSE, payload[:2])
                self._writer.close()
                raise Closed(struct.unpack("!H", payload[:2])[0], payload[2:].decode())

    async def end(self) -> tuple[int, str]:
        """Returns with which code and reason the server closes the socket. Frames before that are skipped."""
        try:
            while True:
                await self.next()
        except Closed as closed:
            return closed.code, closed.reason

    async def percent(self) -> Optional[int]:
        """Returns the percent of the next event."""
        frame = json.loads(await self.next())
        found: Optional[int] = frame.get("event", frame).get("percent")
        return found

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message."""
        self._write(_TEXT, json.dumps(message).encode())

    def close(self) -> None:
        """Goes away as a browser does that is closed."""
        self._writer.close()

    def _write(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
        self._writer.write(bytes([0x80 | opcode]) + length + mask + masked)
