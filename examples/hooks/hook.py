"""A hook for a declared route, with nothing but the standard library: python3 hook.py KEY_FILE [PORT]"""
import base64, hashlib, hmac, json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(open(sys.argv[1]).read().split()[0].removeprefix("whsec_"))
REPORTS = {"acme": {7: "Sales"}, "globex": {7: "Costs"}}  # organization → id → title; yours is in a database
seen = {}  # id of a call → its answer, so that a repeated call is not done twice


def decide(ask):
    """Returns the status and the answer. Everything is inside ask["organization_id"]."""
    report = ask["params"]["id"]
    title = REPORTS.get(ask["organization_id"], {}).get(report)
    if title is None:
        return 404, {}
    if ask["event"] == "connect":
        return 200, {"groups": [f"report_{report}"], "send": [{"type": "report", "id": report, "title": title}]}
    if ask["event"] == "receive" and ask["message"].get("type") == "refresh":
        return 200, {"task": {"kind": "report_refresh", "payload": {"report": report}}}
    if ask["event"] == "receive" and ask["message"].get("type") == "leave":
        return 200, {"close": "done"}
    if ask["event"] == "disconnect":
        print("left", ask["organization_id"], ask["user_id"], flush=True)
    return 200, {}


class Hook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        id, at = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        mac = base64.b64encode(hmac.digest(KEY, f"{id}.{at}.".encode() + body, "sha256")).decode()
        signed = any(hmac.compare_digest(s, "v1," + mac) for s in self.headers["webhook-signature"].split())
        if not signed or abs(time.time() - int(at)) > 300:
            return self.answer(401, {})
        if id not in seen:  # forget those that are older than ten minutes
            seen[id] = decide(json.loads(body))
        self.answer(*seen[id])

    def answer(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 8090), Hook)
print("listening on", server.server_port, flush=True)
server.serve_forever()
