// The browser client in real browsers against the real binary: what a fake socket or a fake lock
// could hide.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { connect as dial, createServer } from 'node:net';
import { Transform } from 'node:stream';
import { after, before, test } from 'node:test';
import { freePort, PATIENCE_MS, Workshop } from './gateway.js';

const workshop = new Workshop();
let browser;
let redis; // its address
let port; // of the gateway, also when it comes back
let url;
let stop;

before(async () => {
  redis = `redis://127.0.0.1:${await workshop.redis()}/0`;
  port = await freePort();
  url = `http://127.0.0.1:${port}`;
  const options = { ignoreDefaultArgs: ['--disable-back-forward-cache'] }; // as people have it
  [browser] = await Promise.all([workshop.browser(options), up()]);
});
after(() => workshop.close());

async function up() {
  ({ stop } = await workshop.start(workshop.binary, ['demo', '--listen', `127.0.0.1:${port}`, '--redis', redis],
    (output) => output.match(/http:\/\/127\.0\.0\.1:\d+\//)));
}

const redisCLI = (...args) => execFileSync('redis-cli', ['-u', redis, ...args], { encoding: 'utf8' }).trim();

/** Records an event, so that it has a position. */
function record(group, text, org = 'acme') {
  execFileSync(workshop.binary, ['publish', '--redis', redis, '--record', org, group, JSON.stringify({ type: 'note', text })]);
}

/** A browser with the session of a person. */
async function person(t, user) {
  const context = await browser.newContext({ bypassCSP: true }); // the wire tap is another port
  t.after(() => context.close());
  if (user) await signIn(context, user);
  return context;
}

async function signIn(context, user) {
  const answer = await context.request.post(`${url}/demo/sign-in`, { data: { user, seat: '' }, headers: { Origin: url } });
  assert.equal(answer.status(), 200, await answer.text());
}

/** The name in Redis of the context's session. */
async function sessionKey(context) {
  return `orgcast:session:${(await context.cookies()).find(({ name }) => name === 'orgcast_session').value}`;
}

/** What announcements call the session. */
const sessionID = (key) => createHash('sha256').update(`orgcast-session-id:${key.replace('orgcast:session:', '')}`).digest('base64url');

const announce = (message) => redisCLI('publish', 'orgcast:control', JSON.stringify(message));

/** A page of the gateway's origin with the client as `client`, which notes what it hears. */
async function page(context, options = {}, { target = '/ws/events', document = '/demo/people' } = {}) {
  const opened = await context.newPage();
  await opened.goto(`${url}${document}`); // any without scripts of its own
  await opened.evaluate(async ([at, given]) => {
    const { connect } = await import('/orgcast.js');
    window.heard = [];
    window.statuses = [];
    if ('check' in given) given.check = async () => (await fetch('/demo/who')).status !== 401;
    window.client = connect(at, given);
    client.onStatus((status) => statuses.push(status));
    for (const type of ['*', 'gap', 'subscribed', 'error']) client.on(type, (frame) => heard.push(frame));
  }, [target, options]);
  return opened;
}

/** Waits until the client is in the state, and returns its status. */
async function reaches(opened, state) {
  const status = await opened.waitForFunction((want) => client.status.state === want && client.status, state, { timeout: PATIENCE_MS });
  return status.jsonValue();
}

/** Waits until the client has been in the state, be it for a moment, and returns its first status of that kind. */
async function passes(opened, state) {
  const status = await opened.waitForFunction((want) => statuses.find((one) => one.state === want), state, { timeout: PATIENCE_MS });
  return status.jsonValue();
}

/** Waits until the client has heard a frame with these fields. */
function hears(opened, fields) {
  return opened.waitForFunction((want) => heard.some((frame) => Object.entries(want).every(([k, v]) => frame[k] === v)), fields, { timeout: PATIENCE_MS });
}

const texts = (opened) => opened.evaluate(() => heard.filter(({ type }) => type === 'note').map(({ text }) => text));
const connections = async () => (await (await fetch(`${url}/demo/status`)).json()).connections;

async function subscribe(opened, group) {
  await opened.evaluate((name) => client.subscribe(name), group);
  await hears(opened, { type: 'subscribed', group });
}

/** Waits until the gateway has so many connections. */
async function settles(want) {
  const deadline = Date.now() + PATIENCE_MS;
  let have;
  do have = await connections(); while (have !== want && Date.now() < deadline);
  assert.equal(have, want, 'open sockets');
}

test('a group reads back its history, and no other', async (t) => {
  const tab = await page(await person(t, 'ada'));
  for (const text of ['one', 'two', 'three']) record('room.back', text);
  const read = await tab.evaluate(async () => {
    const room = client.group('room.back');
    await new Promise((resolve) => { room.on('subscribed', resolve); });
    const texts = [];
    let before;
    for (let more = true; more;) {
      const page = await room.history({ before, limit: 2 });
      texts.unshift(...page.events.map(({ event }) => event.text));
      before = page.events[0]?.id;
      more = page.more;
    }
    const refused = await client.history('room.other').catch(({ code }) => code);
    return { texts, refused };
  });
  assert.deepEqual(read, { texts: ['one', 'two', 'three'], refused: 'unknown_group' });
});

test('a gateway that goes away and comes back costs no recorded event, or the page is told', async (t) => {
  const tab = await page(await person(t, 'ada'));
  await subscribe(tab, 'room.1');
  record('room.1', 'before');
  await hears(tab, { text: 'before' });
  await stop();
  const waiting = await reaches(tab, 'waiting');
  assert.ok([1001, 1006, 1012].includes(waiting.code), `code ${waiting.code}`);
  record('room.1', 'meanwhile');
  await tab.evaluate(() => { heard = []; });
  await up();
  await reaches(tab, 'open');
  await hears(tab, { type: 'subscribed', group: 'room.1' });
  record('room.1', 'after');
  await hears(tab, { text: 'after' });
  const { resume } = await tab.evaluate(() => client.welcome);
  const gaps = await tab.evaluate(() => heard.filter(({ type }) => type === 'gap').length);
  if (resume) assert.deepEqual([await texts(tab), gaps], [['meanwhile', 'after'], 0]);
  else assert.deepEqual([await texts(tab), gaps], [['after'], 1]);
});

test('an ended session is not tried again', async (t) => {
  const context = await person(t, 'ada');
  const tab = await page(context);
  await reaches(tab, 'open');
  await tab.evaluate(() => client.close());
  const key = await sessionKey(context);
  await tab.evaluate(() => {
    statuses = [];
    client.retry();
  });
  await reaches(tab, 'open');
  redisCLI('set', key, JSON.stringify({ ...JSON.parse(redisCLI('get', key)), expires_at: Math.floor(Date.now() / 1000) + 1 }), 'keepttl');
  assert.equal((await reaches(tab, 'closed')).code, 4401);
  assert.deepEqual(await tab.evaluate(() => statuses.map(({ state }) => state)), ['connecting', 'open', 'closed']);
  // The control: with a session it opens again.
  await signIn(context, 'ada');
  await tab.evaluate(() => client.retry());
  await reaches(tab, 'open');
});

test('a refused login is told from a lost network by the page\'s own check, or by the refusal of a stream', async (t) => {
  const tab = await page(await person(t), { check: true });
  assert.equal((await reaches(tab, 'closed')).code, 1006);
  const unchecked = await page(await person(t));
  assert.equal((await passes(unchecked, 'waiting')).code, 1006); // for half a second at most
  assert.equal((await reaches(unchecked, 'closed')).code, 4401);
});

test('offline and online', async (t) => {
  const context = await person(t, 'ada');
  const tap = await tapped();
  const tab = await page(context, { maxWait: 600_000 }, { target: `ws://127.0.0.1:${tap.port}/ws/events` });
  await reaches(tab, 'open');
  await context.setOffline(true);
  tap.cut();
  await reaches(tab, 'waiting');
  await tab.waitForFunction(() => statuses.filter(({ state }) => state === 'connecting').length > 1, null, { timeout: PATIENCE_MS });
  await context.setOffline(false);
  await reaches(tab, 'open');
});

test('a server that says nothing any more is left', async (t) => {
  const tap = await tapped();
  const tab = await page(await person(t, 'ada'), { pingAfter: 200, answerWithin: 5_000 }, { target: `ws://127.0.0.1:${tap.port}/ws/events` });
  await reaches(tab, 'open');
  tap.freeze();
  assert.equal((await passes(tab, 'waiting')).code, 4408);
  await reaches(tab, 'open');
});

test('tabs of one person share a socket, hand it over, and never share it with others', async (t) => {
  await settles(0); // tabs of earlier tests are gone
  const ada = await person(t, 'ada');
  const first = await page(ada, { share: true });
  await reaches(first, 'open');
  await subscribe(first, 'room.1');
  const second = await page(ada, { share: true });
  const third = await page(ada, { share: true });
  for (const tab of [second, third]) {
    await reaches(tab, 'open');
    await subscribe(tab, 'room.1');
  }
  await subscribe(third, 'room.2');
  await settles(1);

  record('room.1', 'to all');
  record('room.2', 'to the third');
  record('room.1', 'last');
  for (const tab of [first, second, third]) await hears(tab, { text: 'last' });
  for (const tab of [first, second]) assert.deepEqual(await texts(tab), ['to all', 'last']);
  assert.deepEqual(await texts(third), ['to all', 'to the third', 'last']);

  // A tab that may not join a group is refused, and takes nothing from the others.
  await second.evaluate(() => client.subscribe('secret'));
  await hears(second, { type: 'error', group: 'secret' });
  assert.equal(await first.evaluate(() => heard.some(({ type }) => type === 'error')), false);

  // The same person under another session cookie of another organization: a socket of its own.
  await signIn(ada, 'grace');
  const foreign = await page(ada, { share: true });
  await reaches(foreign, 'open');
  await subscribe(foreign, 'room.1');
  await settles(2);
  record('room.1', 'for Globex', 'globex');
  await hears(foreign, { text: 'for Globex' });

  // The tab with the socket dies; the next one takes over with its own session, still Ada's.
  await signIn(ada, 'ada');
  await first.close();
  await Promise.all([second, third].map((tab) => tab.waitForFunction(() => statuses.filter(({ state }) => state === 'open').length > 1
    && heard.filter(({ type, group }) => type === 'subscribed' && group === 'room.1').length > 1, null, { timeout: PATIENCE_MS })));
  await settles(2);
  record('room.1', 'handed over');
  for (const tab of [second, third]) {
    await hears(tab, { text: 'handed over' });
    assert.equal((await texts(tab)).filter((text) => text === 'handed over').length, 1);
    assert.equal((await texts(tab)).includes('for Globex'), false);
  }
  assert.deepEqual(await texts(foreign), ['for Globex']);
});

test('a shared socket that finds itself in another organization is shared no more', async (t) => {
  await settles(0); // tabs of earlier tests are gone
  const context = await person(t, 'ada');
  const tap = await tapped();
  const target = `ws://127.0.0.1:${tap.port}/ws/events`;
  const options = { share: true, anyUser: true };
  const tabs = [await page(context, options, { target }), await page(context, options, { target })];
  for (const tab of tabs) {
    await reaches(tab, 'open');
    await subscribe(tab, 'room.1');
  }
  await settles(1);
  await signIn(context, 'grace');
  tap.cut();
  for (const tab of tabs) {
    await tab.waitForFunction(() => client.welcome.organization_id === 'globex' && client.status.state === 'open', null, { timeout: PATIENCE_MS });
    await hears(tab, { type: 'gap', group: 'room.1' });
  }
  await settles(1);
  record('room.1', 'not theirs any more');
  record('room.1', 'theirs now', 'globex');
  for (const tab of tabs) {
    await hears(tab, { text: 'theirs now' });
    assert.deepEqual(await texts(tab), ['theirs now']);
  }
});

test('a switch of the organization, or the end of the session, holds for all tabs that share', async (t) => {
  await settles(0); // tabs of earlier tests are gone
  const context = await person(t, 'ada');
  const key = await sessionKey(context);
  const session = JSON.parse(redisCLI('get', key));
  const tabs = [await page(context, { share: true }), await page(context, { share: true })];
  for (const tab of tabs) {
    await reaches(tab, 'open');
    await subscribe(tab, 'room.1');
  }
  await settles(1);
  redisCLI('hset', 'orgcast:{globex}:member:ada', 'status', 'active');
  t.after(() => redisCLI('del', 'orgcast:{globex}:member:ada'));
  redisCLI('set', key, JSON.stringify({ ...session, active_organization_id: 'globex' }), 'keepttl');
  announce({ type: 'organization.switched', session_id: sessionID(key), organization_id: 'globex' });
  for (const tab of tabs) {
    await tab.waitForFunction(() => statuses.some(({ code }) => code === 4409), null, { timeout: PATIENCE_MS });
    await tab.waitForFunction(() => client.welcome.organization_id === 'globex' && client.status.state === 'open', null, { timeout: PATIENCE_MS });
  }
  await settles(1);

  redisCLI('del', key);
  announce({ type: 'session.ended', session_id: sessionID(key) });
  for (const tab of tabs) assert.equal((await reaches(tab, 'closed')).code, 4401);
  await settles(0);
});

test('three tabs, two users in turn: no tab hears what is not its user\'s', async (t) => {
  await settles(0); // tabs of earlier tests are gone
  const context = await person(t, 'ada');
  const tap = await tapped();
  const target = `ws://127.0.0.1:${tap.port}/ws/events`;
  const tabs = [];
  for (const share of [true, true, false]) {
    const tab = await page(context, { share }, { target });
    await reaches(tab, 'open');
    await subscribe(tab, 'room.1');
    tabs.push(tab);
  }
  await settles(2);
  for (const [user, org, foreign] of [['grace', 'globex', 'acme'], ['ada', 'acme', 'globex']]) {
    await signIn(context, user);
    tap.cut();
    for (const tab of tabs) assert.equal((await reaches(tab, 'closed')).reason, 'identity');
    await settles(0);
    record('room.1', `in turn, ${org}`, org);
    for (const tab of tabs) {
      await tab.evaluate(() => { heard = []; client.retry(); });
      await reaches(tab, 'open');
      await hears(tab, { type: 'subscribed', group: 'room.1' });
    }
    record('room.1', 'theirs', foreign);
    record('room.1', `now ${org}`, org);
    for (const tab of tabs) {
      await hears(tab, { text: `now ${org}` });
      assert.deepEqual((await texts(tab)).filter((text) => text === 'theirs'), []);
      assert.equal(await tab.evaluate(() => client.welcome.user_id), user);
    }
  }
});

test('ten wanted switches in a row: each time the client comes back at once', async (t) => {
  const context = await person(t, 'ada');
  const key = await sessionKey(context);
  const session = JSON.parse(redisCLI('get', key));
  redisCLI('hset', 'orgcast:{globex}:member:ada', 'status', 'active');
  t.after(() => redisCLI('del', 'orgcast:{globex}:member:ada'));
  const tab = await page(context);
  await reaches(tab, 'open');
  await subscribe(tab, 'room.1');
  await tab.evaluate(() => {
    window.waits = [];
    client.onStatus(({ code, retryAt }) => { if (retryAt) waits.push([code, retryAt - Date.now() <= 250]); });
  });
  const started = Date.now();
  for (let i = 0; i < 10; i++) {
    const org = i % 2 ? 'acme' : 'globex';
    redisCLI('set', key, JSON.stringify({ ...session, active_organization_id: org }), 'keepttl');
    announce({ type: 'organization.switched', session_id: sessionID(key), organization_id: org });
    await tab.waitForFunction((want) => client.welcome.organization_id === want && client.status.state === 'open', org, { timeout: PATIENCE_MS });
  }
  t.diagnostic(`ten switches took ${Date.now() - started} ms`);
  assert.deepEqual(await tab.evaluate(() => waits), Array(10).fill([4409, true]));
});

test('one group more than a connection may join: the others stay, on one socket', async (t) => {
  const tab = await page(await person(t, 'ada'));
  await reaches(tab, 'open');
  await tab.evaluate(() => { for (let i = 0; i < 101; i++) client.subscribe(`room.${i}`); });
  await tab.waitForFunction(() => heard.filter(({ type }) => type === 'subscribed').length === 100, null, { timeout: PATIENCE_MS });
  await hears(tab, { type: 'error', code: 'too_many_groups' });
  record('room.1', 'still there');
  await hears(tab, { text: 'still there' });
  assert.deepEqual(await tab.evaluate(() => statuses.map(({ state }) => state)), ['open']);
});

test('1,000 groups over a reconnect: one socket, nothing missing', async (t) => {
  const wide = await freePort();
  const gateway = await workshop.start(workshop.binary, ['serve', '--listen', `127.0.0.1:${wide}`, '--admin-listen', '127.0.0.1:0',
    '--redis', redis, '--session-store', 'redis', '--session-insecure', '--directory', 'redis', '--origins', url,
    '--groups-per-connection', '1000', '--drain-wait', '0s', '--drain', '0s'], (output) => output.includes('"serving"'));
  t.after(gateway.stop);
  const tap = await tapped(wide);
  const tab = await page(await person(t, 'ada'), {}, { target: `ws://127.0.0.1:${tap.port}/ws/events` });
  await reaches(tab, 'open');
  const name = (i) => `room.${'x'.repeat(80)}${i}`;
  await tab.evaluate((stem) => { for (let i = 0; i < 1000; i++) client.subscribe(`${stem}${i}`); }, name(''));
  const all = () => tab.waitForFunction(() => heard.filter(({ type }) => type === 'subscribed').length === 1000, null, { timeout: PATIENCE_MS });
  await all();
  for (const i of [0, 500, 999]) record(name(i), `before ${i}`);
  for (const i of [0, 500, 999]) await hears(tab, { text: `before ${i}` });
  await tab.evaluate(() => { heard = []; });
  tap.cut();
  await passes(tab, 'waiting'); // for half a second at most
  for (const i of [0, 500, 999]) record(name(i), `meanwhile ${i}`);
  await reaches(tab, 'open');
  await all();
  assert.deepEqual((await texts(tab)).sort(), ['meanwhile 0', 'meanwhile 500', 'meanwhile 999']);
  assert.equal(await tab.evaluate(() => heard.some(({ type }) => type === 'error')), false);
  assert.deepEqual(await tab.evaluate(() => statuses.map(({ code }) => code).filter(Boolean)), [1006]);
});

test('the end of one session does not end another of the same person', async (t) => {
  const context = await person(t, 'ada');
  const key = await sessionKey(context);
  const first = await page(context, { share: true });
  await reaches(first, 'open');
  await signIn(context, 'ada'); // again, while the first tab is open
  const second = await page(context, { share: true });
  await reaches(second, 'open');
  await subscribe(second, 'room.1');
  redisCLI('del', key);
  announce({ type: 'session.ended', session_id: sessionID(key) });
  assert.equal((await reaches(first, 'closed')).code, 4401);
  await second.waitForFunction(() => statuses.filter(({ state }) => state === 'open').length > 1, null, { timeout: PATIENCE_MS });
  record('room.1', 'still there');
  await hears(second, { text: 'still there' });
});

test('a tab whose leader is frozen takes the socket from it', async (t) => {
  const ada = await person(t, 'ada');
  const first = await page(ada, { share: true });
  await reaches(first, 'open');
  const second = await page(ada, { share: true });
  await reaches(second, 'open');
  await subscribe(second, 'room.1');
  const frozen = await ada.newCDPSession(first);
  await frozen.send('Debugger.enable');
  await frozen.send('Debugger.pause');
  void first.evaluate(() => 0).catch(() => {}); // reaches the pause
  await second.evaluate(() => dispatchEvent(new Event('visibilitychange'))); // makes sure now rather than after 25 s
  await second.waitForFunction(() => statuses.filter(({ state }) => state === 'open').length > 1, null, { timeout: PATIENCE_MS });
  record('room.1', 'after the thaw');
  await hears(second, { text: 'after the thaw' });
  await frozen.send('Debugger.disable');
  await reaches(first, 'open');
  await subscribe(first, 'room.1');
  record('room.1', 'to both');
  for (const tab of [first, second]) {
    await hears(tab, { text: 'to both' });
    assert.equal((await texts(tab)).filter((text) => text === 'to both').length, 1);
  }
});

test('a page that comes back by the back button connects again', async (t) => {
  const tab = await page(await person(t, 'ada'), { share: true }, { document: '/favicon.svg' }); // one that may be kept
  await reaches(tab, 'open');
  await subscribe(tab, 'room.1');
  await tab.evaluate(() => {
    statuses = [];
    addEventListener('pageshow', ({ persisted }) => { window.kept = persisted; });
  });
  await tab.goto(`${url}/demo/people`);
  await settles(0);
  record('room.1', 'while away');
  await tab.goBack({ waitUntil: 'commit' });
  await tab.waitForFunction(() => window.kept && statuses.at(-1)?.state === 'open', null, { timeout: PATIENCE_MS });
  await tab.waitForFunction(() => heard.some(({ type, text }) => type === 'gap' || text === 'while away'), null, { timeout: PATIENCE_MS });
});

/** A way to the gateway that can be cut, or go silent for the connections that are open. change is for what clients send. */
async function tapped(to = port, change) {
  const open = new Set();
  const tapPort = await workshop.listen(createServer((client) => {
    const upstream = dial(to, '127.0.0.1');
    const pair = [client, upstream];
    open.add(pair);
    for (const socket of pair) {
      socket.on('error', () => {});
      socket.on('close', () => { for (const end of pair) end.destroy(); open.delete(pair); });
    }
    const sent = change ? client.pipe(new Transform({ transform: (bytes, _, done) => done(null, change(bytes)) })) : client;
    sent.pipe(upstream).pipe(client);
  }));
  const cut = () => { for (const pair of open) for (const socket of pair) socket.destroy(); };
  workshop.onClose(cut);
  return { port: tapPort, cut, freeze: () => { for (const [client, upstream] of open) upstream.unpipe(client); } };
}

/** What a proxy that knows no WebSockets leaves of a request. */
const withoutUpgrade = (bytes) => Buffer.from(bytes.toString('latin1').replace(/^(Upgrade|Connection): .*\r\n/gim, ''), 'latin1');

/** A page that hears everything over a stream, in a group. */
async function streaming(t, context) {
  const tap = await tapped(port, withoutUpgrade);
  const tab = await page(context, { maxWait: 1_000 }, { target: `ws://127.0.0.1:${tap.port}/ws/events` });
  assert.equal((await reaches(tab, 'open')).transport, 'sse');
  await subscribe(tab, 'room.1');
  return { tab, tap };
}

test('without WebSockets a page receives over a stream, resumes after a restart, and is ended by a logout', async (t) => {
  const context = await person(t, 'ada');
  const { tab } = await streaming(t, context);
  record('room.1', 'before');
  await hears(tab, { text: 'before' });
  await tab.evaluate(() => client.subscribe('room.2')); // another request, which misses nothing
  await hears(tab, { type: 'subscribed', group: 'room.2' });
  record('room.2', 'in the second');
  await hears(tab, { text: 'in the second' });
  assert.equal(await tab.evaluate(() => client.send({ type: 'note', text: 'no way' })), false);
  await hears(tab, { type: 'error', code: 'websocket_required' });

  await stop();
  await tab.waitForFunction(() => client.status.state !== 'open', null, { timeout: PATIENCE_MS });
  record('room.1', 'meanwhile');
  await tab.evaluate(() => { heard = []; });
  await up();
  assert.equal((await reaches(tab, 'open')).transport, 'sse');
  await hears(tab, { type: 'subscribed', group: 'room.1' });
  record('room.1', 'after');
  await hears(tab, { text: 'after' });
  assert.deepEqual(await texts(tab), ['meanwhile', 'after']);

  const key = await sessionKey(context);
  redisCLI('del', key);
  const began = Date.now();
  announce({ type: 'session.ended', session_id: sessionID(key) });
  assert.equal((await reaches(tab, 'closed')).code, 4401);
  t.diagnostic(`the logout took ${Date.now() - began} ms`);
});

test('without WebSockets a refused login is known as one, and one that succeeds opens a stream', async (t) => {
  const tap = await tapped(port, withoutUpgrade);
  const context = await person(t);
  const tab = await page(context, { maxWait: 1_000 }, { target: `ws://127.0.0.1:${tap.port}/ws/events` });
  assert.equal((await reaches(tab, 'closed')).code, 4401);
  await signIn(context, 'ada');
  await tab.evaluate(() => client.retry());
  assert.equal((await reaches(tab, 'open')).transport, 'sse');
});

test('without WebSockets tabs share a stream', async (t) => {
  await settles(0); // tabs of earlier tests are gone
  const context = await person(t, 'ada');
  const tap = await tapped(port, withoutUpgrade);
  const tabs = [];
  for (const group of ['room.1', 'room.2']) {
    const tab = await page(context, { share: true, maxWait: 1_000 }, { target: `ws://127.0.0.1:${tap.port}/ws/events` });
    await reaches(tab, 'open');
    await subscribe(tab, group);
    tabs.push(tab);
  }
  await settles(1);
  record('room.1', 'to the first');
  record('room.2', 'to the second');
  await hears(tabs[0], { text: 'to the first' });
  await hears(tabs[1], { text: 'to the second' });
  await tabs[0].close();
  await tabs[1].waitForFunction(() => statuses.filter(({ state }) => state === 'open').length > 1, null, { timeout: PATIENCE_MS });
  record('room.2', 'handed over'); // the stream may not be open yet
  await hears(tabs[1], { text: 'handed over' });
  assert.deepEqual(await texts(tabs[1]), ['to the second', 'handed over']);
  assert.equal(await tabs[1].evaluate(() => heard.some(({ type }) => type === 'gap')), false);
});

test('EventSource alone, without our client: it resumes by itself, and gives up after a logout', async (t) => {
  const context = await person(t, 'ada');
  const tab = await context.newPage();
  await tab.goto(`${url}/demo/people`);
  await tab.evaluate(() => {
    window.heard = [];
    window.ends = [];
    window.source = new EventSource('/sse/events?group=room.1&group=room.2'); // of its own site, so without an Origin
    source.onmessage = ({ data }) => heard.push(JSON.parse(data).event ?? JSON.parse(data));
    source.addEventListener('close', ({ data }) => ends.push(JSON.parse(data).code));
  });
  const subscribed = (count) => tab.waitForFunction((want) => heard.filter(({ type }) => type === 'subscribed').length === want, count, { timeout: PATIENCE_MS });
  await subscribed(2);
  record('room.1', 'before');
  await hears(tab, { text: 'before' });
  await stop();
  await tab.waitForFunction(() => source.readyState === EventSource.CONNECTING, null, { timeout: PATIENCE_MS });
  record('room.2', 'meanwhile');
  await up();
  await subscribed(4);
  record('room.1', 'after');
  await hears(tab, { text: 'after' });
  assert.deepEqual(await texts(tab), ['before', 'meanwhile', 'after']);
  assert.equal(await tab.evaluate(() => heard.some(({ type }) => type === 'gap')), false);
  const key = await sessionKey(context);
  redisCLI('del', key);
  announce({ type: 'session.ended', session_id: sessionID(key) });
  await tab.waitForFunction(() => source.readyState === EventSource.CLOSED, null, { timeout: PATIENCE_MS });
  assert.equal(await tab.evaluate(() => ends.at(-1)), 4401);
});
