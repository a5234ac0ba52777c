// docs/integrate.md as its reader follows it: every block of the page runs, against a real gateway and Redis, with a
// site in Python behind a proxy and a real browser before it.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, request as forward } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { root, Workshop } from './gateway.js';

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

class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query))
        response, kind, body = Response(), "text/html", PAGE
        if url.path == "/sign-in":
            sign_in(response, asked["user"], asked["organization"])
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

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
print("site at", server.server_address[1], flush=True)
server.serve_forever()
`;

/** A proxy as step 5 wants it: /ws/ to the gateway, the rest to the site. */
async function proxy(site, gatewayPort) {
  const server = createServer((incoming, outgoing) => {
    const upstream = forward({ host: '127.0.0.1', port: site, path: incoming.url, headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    upstream.on('error', () => outgoing.destroy());
    incoming.pipe(upstream);
  });
  server.on('upgrade', (incoming, client) => {
    const upstream = connect(gatewayPort(), '127.0.0.1');
    const lines = [`${incoming.method} ${incoming.url} HTTP/1.1`];
    for (let i = 0; i < incoming.rawHeaders.length; i += 2) lines.push(`${incoming.rawHeaders[i]}: ${incoming.rawHeaders[i + 1]}`);
    upstream.write(`${lines.join('\r\n')}\r\n\r\n`);
    for (const socket of [client, upstream]) socket.on('error', () => { client.destroy(); upstream.destroy(); });
    for (const [one, other] of [[client, upstream], [upstream, client]]) one.on('close', () => other.destroy());
    client.pipe(upstream).pipe(client);
  });
  return workshop.listen(server);
}

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
  const python = [take('python'), take('python'), take('python'), take('python')];
  const client = readFileSync(join(root, 'web', 'demo', 'orgcast.js'), 'utf8'); // the same, not minified
  const script = join(workshop.dir, 'site.py');
  writeFileSync(script, `${python.join('\n').replace('port=6379', `port=${redis}`)}
PAGE, CLIENT = ${JSON.stringify(html)}, ${JSON.stringify(client)}
${SITE}`);
  const [, site] = await workshop.run('/usr/bin/python3', ['-B', script], (output) => output.match(/site at (\d+)/));
  const port = await proxy(Number(site), () => gatewayPort);
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
  assert.deepEqual(all, [], 'every block was run');
});
