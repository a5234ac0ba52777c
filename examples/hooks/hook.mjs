// A hook for a declared route, with nothing but Node.js: node hook.mjs KEY_FILE [PORT]
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const key = Buffer.from(readFileSync(process.argv[2], "utf8").split(/\s/)[0].replace("whsec_", ""), "base64");
const reports = { acme: { 7: "Sales" }, globex: { 7: "Costs" } }; // organization → id → title; yours is in a database
const seen = new Map(); // id of a call → its answer, so that a repeated call is not done twice

// Returns the status and the answer. Everything is inside ask.organization_id.
function decide(ask) {
  const title = reports[ask.organization_id]?.[ask.params.id];
  if (title === undefined) return [404, {}];
  if (ask.event === "connect")
    return [200, { groups: [`report_${ask.params.id}`], send: [{ type: "report", id: ask.params.id, title }] }];
  if (ask.event === "receive" && ask.message.type === "refresh")
    return [200, { task: { kind: "report_refresh", payload: { report: ask.params.id } } }];
  if (ask.event === "receive" && ask.message.type === "leave") return [200, { close: "done" }];
  if (ask.event === "disconnect") console.log("left", ask.organization_id, ask.user_id);
  return [200, {}];
}

function signed(headers, body) {
  const id = headers["webhook-id"], at = headers["webhook-timestamp"];
  const mac = Buffer.from("v1," + createHmac("sha256", key).update(`${id}.${at}.`).update(body).digest("base64"));
  const one = (s) => s.length === mac.length && timingSafeEqual(Buffer.from(s), mac);
  return Math.abs(Date.now() / 1000 - at) < 300 && (headers["webhook-signature"] ?? "").split(" ").some(one);
}

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks), id = request.headers["webhook-id"];
  const known = signed(request.headers, body);
  if (known && !seen.has(id)) seen.set(id, decide(JSON.parse(body))); // forget those that are older than ten minutes
  const [status, answer] = known ? seen.get(id) : [401, {}];
  response.writeHead(status).end(JSON.stringify(answer));
});
server.listen(Number(process.argv[3] ?? 8090), "127.0.0.1", () => console.log("listening on", server.address().port));
