"""The site under ASGI, with the socket that it had under Channels."""

from __future__ import annotations

import json
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path
from orgcast.django import conf

conf._ANNOUNCEMENT_TIMEOUT = 60.0  # a busy machine must not look like a gateway that is away


class Questions:
    """Counts the questions of the gateway."""

    def __init__(self, application: Any) -> None:
        self._application, self.count = application, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == conf.DEFAULTS["IDENTITY_PATH"]:
            self.count += 1
        await self._application(scope, receive, send)


class Report(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Tells a page how far a report has come. Under Orgcast a declared route takes its place."""

    async def connect(self) -> None:
        self.group = f"report_{self.scope['url_route']['kwargs']['report']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def report_update(self, event: dict[str, Any]) -> None:
        frame = {"type": event["type"], "status": event["status"], "percent": event["percent"]}
        await self.send(json.dumps(frame, separators=(",", ":")))


questions = Questions(get_asgi_application())
sockets = AuthMiddlewareStack(URLRouter([path("ws/report/<int:report>/", Report.as_asgi())]))
application = ProtocolTypeRouter({"http": questions, "websocket": sockets})
