"""The socket of a report under Channels. With Orgcast, routes.yaml takes its place."""

import json

from channels.generic.websocket import AsyncWebsocketConsumer


class ReportConsumer(AsyncWebsocketConsumer):
    """Tells a page how far a report has come."""

    async def connect(self):
        if not self.scope["user"].is_authenticated:
            await self.close()
            return
        self.group = f"report_{self.scope['url_route']['kwargs']['report']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        if hasattr(self, "group"):
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def report_update(self, event):
        frame = {"type": event["type"], "status": event["status"], "percent": event["percent"]}
        await self.send(json.dumps(frame, separators=(",", ":")))
