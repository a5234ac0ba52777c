"""The hook of routes.yaml, with nothing but the standard library: python3 hook.py KEY_FILE [PORT]"""
import base64, hashlib, hmac, json, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(open(sys.argv[1]).read().split()[0].removeprefix("whsec_"))


def decide(ask):
    """Returns the answer. All names in it are inside ask["organization_id"]."""
    report = ask["params"]["id"]
    if ask["event"] == "connect":
        return {"groups": [f"report_{report}"]}
    message = ask["message"]
    if message.get("type") != "build":
        return {"send": [{"type": "refused", "code": "unknown_type"}]}
    request = str(message.get("request_id"))
    # The same request of the same user is the same task.
    task = hashlib.sha256(json.dumps([ask["user_id"], report, request]).encode()).hexdigest()
    return {
        "send": [{"type": "task_accepted", "task_id": task, "request_id": request}],
        "task": {"kind": "report_build", "id": task, "payload": {"id": report}},
    }


class Hook(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps connections open

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        id, at = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        mac = base64.b64encode(hmac.digest(KEY, f"{id}.{at}.".encode() + body, "sha256")).decode()
        signed = any(hmac.compare_digest(s, "v1," + mac) for s in self.headers["webhook-signature"].split())
        if not signed or abs(time.time() - int(at)) > 300:
            return self.answer(401, {})
        self.answer(200, decide(json.loads(body)))

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
