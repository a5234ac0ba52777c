// docs/integrate.md as its reader follows it: every block of the page runs, against a real gateway and Redis, with a
// site in Python behind a proxy and a real browser before it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { root, Workshop } from './gateway.js';
import { proxy } from './proxy.js';

const workshop = new Workshop();
after(() => workshop.close());

/** The blocks of the page in their order: {language, text}. */
function blocks() {
  const page = readFileSync(join(root, 'docs', 'integrate.md'), 'utf8');
  return [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, text]) => ({ language, text }));
}

/** What a site brings along: people who sign in, and a page. */
const SITE = `
import http.cookies, http.server, urllib.parse

class Response:
    def __init__(self):
        self.cookies = http.cookies.SimpleCookie()
    def set_cookie(self, name, value, **attributes):
        self.cookies[name] = value
        for attribute, setting in attributes.items():
            self.cookies[name][attribute.replace("_", "-")] = setting

SESSIONS = {}  # of the site itself, for the last section of the page

class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query))
        response, kind, body = Response(), "text/html", PAGE
        if url.path == "/sign-in":
            sign_in(response, asked["user"], asked["organization"])
        elif url.path == "/own-sign-in":
            SESSIONS["own"] = {"user": asked["user"], "organization": asked["organization"], "role": "admin", "expires": int(time.time()) + 3600}
            response.set_cookie("sessionid", "own", httponly=True)
        elif url.path == "/own-sign-out":
            SESSIONS.clear()
        elif url.path == "/sign-out":
            sign_out(http.cookies.SimpleCookie(self.headers["Cookie"])["orgcast_session"].value)
        elif url.path == "/publish":
            publish(asked["organization"], {"type": "note", "text": asked["text"]})
        elif url.path == "/static/orgcast.min.js":
            kind, body = "text/javascript", CLIENT
        self.send_response(200)
        self.send_header("Content-Type", kind + "; charset=utf-8")
        for morsel in response.cookies.values():
            self.send_header("Set-Cookie", morsel.OutputString())
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = identity(self.headers["Authorization"], question, KEY, lambda cookies: {c: SESSIONS[c] for c in cookies if c in SESSIONS})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
print("site at", server.server_address[1], flush=True)
server.serve_forever()
`;

test('docs/integrate.md, block by block', async () => {
  const all = blocks();
  const take = (language) => {
    const at = all.findIndex((block) => block.language === language);
    assert.ok(at >= 0, `no block of ${language} is left`);
    return all.splice(at, 1)[0].text;
  };
  const redis = await workshop.redis();
  let gatewayPort;
  const html = take('html');
  const python = Array.from({ length: 5 }, () => take('python'));
  const key = 'a-key-that-only-the-two-of-them-know';
  writeFileSync(join(workshop.dir, 'key'), key);
  const client = readFileSync(join(root, 'web', 'demo', 'orgcast.js'), 'utf8'); // the same, not minified
  const script = join(workshop.dir, 'site.py');
  writeFileSync(script, `${python.join('\n').replace('port=6379', `port=${redis}`)}
KEY = ${JSON.stringify(key)}
PAGE, CLIENT = ${JSON.stringify(html)}, ${JSON.stringify(client)}
${SITE}`);
  const [, site] = await workshop.run('/usr/bin/python3', ['-B', script], (output) => output.match(/site at (\d+)/));
  const port = await proxy(workshop, Number(site), () => gatewayPort);
  const origin = `http://127.0.0.1:${port}`;

  /** The arguments of a command on the page, for the ports of this run. */
  const args = (line) => {
    const [, rest] = line.match(/^\$ gateway (.*)$/m);
    return rest.replace('127.0.0.1:6379', `127.0.0.1:${redis}`).replace('https://app.example.com', origin).replace('127.0.0.1:8080', '127.0.0.1:0').split(' ');
  };
  const [, listening] = await workshop.run(workshop.binary, [...args(take('console')), '--admin-listen', '127.0.0.1:0'],
    (output) => output.match(/"serving".*?"public":"127\.0\.0\.1:(\d+)"/));
  gatewayPort = Number(listening);

  const browser = await workshop.browser();
  const people = {};
  for (const [user, organization] of [['ada', 'acme'], ['grace', 'globex']]) {
    const context = await browser.newContext();
    const page = await context.newPage();
    const subscribed = new Promise((resolve) => {
      page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => String(payload).includes('"subscribed"') && resolve()));
    });
    await page.goto(`${origin}/sign-in?user=${user}&organization=${organization}`);
    await subscribed;
    people[user] = { context, page, notes: page.locator('#notes li') };
  }
  await fetch(`${origin}/publish?organization=acme&text=for-acme`);
  await people.ada.notes.filter({ hasText: 'for-acme' }).waitFor();
  await fetch(`${origin}/publish?organization=globex&text=for-globex`);
  await people.grace.notes.filter({ hasText: 'for-globex' }).waitFor();
  assert.deepEqual(await people.grace.notes.allTextContents(), ['for-globex'], 'and nothing of Acme before it');

  const [cookie] = await people.ada.context.cookies();
  assert.ok(cookie.httpOnly && cookie.secure && cookie.sameSite === 'Lax', 'as step 2 sets it');
  const [command, ...printed] = take('console').trim().split('\n');
  const said = execFileSync(workshop.binary, args(command).map((arg) => arg.replace('VALUE', cookie.value)), { encoding: 'utf8' });
  for (const line of printed) assert.ok(said.includes(line), `${said} does not say ${line}`);
  assert.match(execFileSync(workshop.binary, args(take('console')), { encoding: 'utf8' }), /^ {2}subscriptions +ok$/m);

  const closed = people.ada.page.evaluate(() => new Promise((resolve) => { // a second socket of the same session
    const socket = new WebSocket(`ws://${location.host}/ws/events`, 'orgcast.v1');
    socket.onmessage = () => resolve(new Promise((ended) => { socket.onclose = ({ code }) => ended(code); fetch('/sign-out'); }));
    socket.onclose = ({ code }) => resolve(`refused ${code}`);
  }));
  assert.equal(await closed, 4401);
  await fetch(`${origin}/publish?organization=globex&text=still-there`);
  await people.grace.notes.filter({ hasText: 'still-there' }).waitFor();

  // The last section: the gateway asks the site about the site's own cookie.
  let askingPort;
  const asking = `http://127.0.0.1:${await proxy(workshop, Number(site), () => askingPort)}`;
  const settings = args(take('console')).map((arg) => (arg === origin ? asking : arg === 'key' ? join(workshop.dir, 'key') : arg.replace(':8000', `:${site}`)));
  [, askingPort] = await workshop.run(workshop.binary, [...settings, '--admin-listen', '127.0.0.1:0'],
    (output) => output.match(/"serving".*?"public":"127\.0\.0\.1:(\d+)"/));
  const page = await (await browser.newContext()).newPage();
  const subscribed = new Promise((resolve) => {
    page.on('websocket', (socket) => socket.on('framereceived', ({ payload }) => String(payload).includes('"subscribed"') && resolve()));
  });
  await page.goto(`${asking}/own-sign-in?user=edith&organization=acme`);
  await subscribed;
  await fetch(`${origin}/publish?organization=globex&text=foreign`);
  await fetch(`${origin}/publish?organization=acme&text=asked`);
  await page.locator('#notes li').filter({ hasText: 'asked' }).waitFor();
  assert.deepEqual(await page.locator('#notes li').allTextContents(), ['asked']);
  const ended = page.evaluate(() => new Promise((resolve) => {
    const socket = new WebSocket(`ws://${location.host}/ws/events`, 'orgcast.v1');
    socket.onmessage = () => fetch('/own-sign-out'); // and nothing is announced
    socket.onclose = ({ code, reason }) => resolve(`${code} ${reason}`);
  }));
  assert.equal(await ended, '4401 {"retry":"once"}');
  assert.deepEqual(all, [], 'every block was run');
});
