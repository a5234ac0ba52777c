// Cross-site WebSocket hijacking: a foreign page opens a socket to the gateway in the hope that its
// visitor's session cookie travels along. It does, in both cases here, as the wire tap shows; the
// gateway refuses for the origin alone. The control is the same handshake from the gateway's own page.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { Workshop } from './gateway.js';

const workshop = new Workshop();
let url; // the gateway
let tap; // the same gateway, with every head on record
let attackerPort;
let session; // the value of Ada's cookie
let context;

before(async () => {
  url = await workshop.demo();
  tap = await workshop.tap(url);
  attackerPort = await workshop.listen(createServer((request, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>You have won</title>');
  }));
  // Without the page's own policy, so that the control can go through the tap as well.
  context = await workshop.browserWithThirdPartyCookies({ bypassCSP: true });
});
after(() => workshop.close());

/** Signs Ada in as the demo does, then gives her cookie the attributes under test. */
async function signIn(attributes) {
  const page = await context.newPage();
  await page.goto(`${url}/`);
  const status = await page.evaluate(() => fetch('/demo/sign-in', { method: 'POST', body: new URLSearchParams({ user: 'ada' }) }).then((r) => r.status));
  assert.equal(status, 200);
  await page.close();
  const cookie = (await context.cookies(url)).find(({ name }) => name === 'orgcast_session');
  session = cookie.value;
  await context.addCookies([{ ...cookie, ...attributes }]);
}

/** Opens a socket from a page; returns what that page saw and what went over the wire. */
async function connectFrom(address) {
  const page = await context.newPage();
  await page.goto(address);
  const before = tap.seen.length;
  const outcome = await page.evaluate((target) => new Promise((resolve) => {
    const socket = new WebSocket(target, 'orgcast.v1');
    socket.onmessage = ({ data }) => resolve(JSON.parse(data));
    socket.onclose = ({ code }) => resolve(code);
  }), `ws://127.0.0.1:${tap.port}/ws/events`);
  await page.close();
  const [exchange] = tap.seen.slice(before).filter(({ request }) => request.startsWith('GET /ws/events '));
  return { outcome, status: exchange.status, request: exchange.request };
}

/** Asserts that the foreign page's handshake bore the session and was refused nevertheless. */
async function checkHijack(origin) {
  const foreign = await connectFrom(`${origin}/`);
  assert.match(foreign.request, new RegExp(`^Origin: ${origin}\r$`, 'm'));
  assert.match(foreign.request, new RegExp(`^Cookie:.*\\borgcast_session=${session}\\b`, 'm'), 'the cookie was not sent, so this proves nothing');
  assert.equal(foreign.status, 403);
  assert.equal(foreign.outcome, 1006);

  const own = await connectFrom(`${url}/demo/status`);
  assert.match(own.request, new RegExp(`^Cookie:.*\\borgcast_session=${session}\\b`, 'm'));
  assert.equal(own.status, 101);
  assert.equal(own.outcome.user_id, 'ada');
}

test('a page of the same site on another port cannot use the session', async () => {
  await signIn({}); // SameSite=Lax as set: ports do not matter to SameSite
  await checkHijack(`http://127.0.0.1:${attackerPort}`);
});

test('a page of another site cannot use the session, third-party cookies or not', async () => {
  await signIn({ sameSite: 'None', secure: true });
  await checkHijack(`http://attacker.test:${attackerPort}`);
});

test('a foreign page cannot publish for its visitor', async () => {
  await signIn({ sameSite: 'None', secure: true });
  for (const origin of [`http://127.0.0.1:${attackerPort}`, `http://attacker.test:${attackerPort}`]) {
    const page = await context.newPage();
    await page.goto(`${origin}/`);
    const before = tap.seen.length;
    await page.evaluate((target) => fetch(target, {
      method: 'POST', mode: 'no-cors', credentials: 'include', body: JSON.stringify({ group: 'room.1', text: 'forged' }),
    }), `http://127.0.0.1:${tap.port}/demo/publish`);
    await page.close();
    const [post] = tap.seen.slice(before).filter(({ request }) => request.startsWith('POST /demo/publish '));
    assert.match(post.request, new RegExp(`^Cookie:.*\\borgcast_session=${session}\\b`, 'm'), 'the cookie was not sent, so this proves nothing');
    assert.equal(post.status, 403);
  }
});
