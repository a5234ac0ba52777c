// The packed client as bundlers put it together, in Chromium and Firefox, against the real binary: a gateway with
// session cookies, and one with tokens of an identity provider.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import { connect as dial, createServer as listen } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { scripts } from './bundles.js';
import { start, until } from './drivers.js';
import { freePort, PATIENCE_MS, Workshop } from './gateway.js';
import { provider } from './provider.js';
import { proxy } from './proxy.js';

const workshop = new Workshop();
after(() => workshop.close());

const redis = `redis://127.0.0.1:${await workshop.redis()}/0`;
const { made, alone } = await scripts(join(workshop.dir, 'application'));
const files = { '/alone.js': alone, ...Object.fromEntries(Object.entries(made).map(([name, script]) => [`/${name}.js`, script])) };
const browsers = [await start(workshop, 'chromium'), await start(workshop, 'firefox')];

const KEY = 'cookie-key-cookie-key-cookie-key';
const mint = (user) => execFileSync(workshop.binary, ['session', 'mint', '--session-keys', KEY, '--session-insecure', user, 'acme'], { encoding: 'utf8' }).trim();

/** A site with scripts, where /sign-in/USER is all that it takes. */
const site = await workshop.listen(createServer(({ url }, response) => {
  if (url.startsWith('/sign-in/')) response.setHeader('Set-Cookie', `${mint(url.slice(9))}; path=/`);
  response.setHeader('Content-Type', files[url] ? 'text/javascript' : 'text/html');
  response.end(files[url] ?? '<!doctype html><title>Site</title>');
}));
let gateway;
const wire = await tap(() => gateway);
const origin = `http://127.0.0.1:${await proxy(workshop, site, () => wire.port)}`;
let operators;
[, gateway, operators] = await workshop.run(workshop.binary, ['serve', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--redis', redis,
  '--session-keys', KEY, '--session-insecure', '--directory', 'session', '--origins', origin, '--presence-policy', 'room.*=states'], (output) => output.match(/"public":"127.0.0.1:(\d+)","private":"([^"]+)"/));

/** How many connections there are. */
const connections = async () => Number((await (await fetch(`http://${operators}/metrics`)).text()).match(/^orgcast_connections(?:{.*})? (\d+)$/m)[1]);

/** A way to the gateway that can be cut. */
async function tap(to) {
  const open = new Set();
  const port = await workshop.listen(listen((client) => {
    const upstream = dial(to(), '127.0.0.1');
    for (const [one, other] of [[client, upstream], [upstream, client]]) {
      open.add(one);
      one.on('error', () => {});
      one.on('close', () => { other.destroy(); open.delete(one); });
    }
    client.pipe(upstream).pipe(client);
  }));
  const cut = () => { for (const socket of open) socket.destroy(); };
  workshop.onClose(cut);
  return { port, cut };
}

/** Records an event, so that it has a position. */
function record(group, text, organization = 'acme') {
  execFileSync(workshop.binary, ['publish', '--redis', redis, '--record', organization, group, JSON.stringify({ type: 'note', text })]);
}

/** A page with the session of a user, next to another page or in a context of its own. */
async function person(browser, user, beside) {
  const page = await browser.open(beside);
  await page.goto(beside ? `${origin}/` : `${origin}/sign-in/${user}`);
  return page;
}

const shows = (page, id, text) => until(page, ([id, text]) => document.getElementById(id)?.textContent === text, [id, text]);
const reaches = (page, state) => until(page, (want) => window.client?.status.state === want && client.status, state);
const hears = (page, text) => until(page, (want) => heard.includes(want), text);

/** A page with a client of the module for pages without a bundler, which notes what it hears. */
async function plain(browser, user, options = {}, { beside, at = '/ws/events' } = {}) {
  const page = await person(browser, user, beside);
  await page.evaluate(async ([url, given]) => {
    const { connect } = await import('/alone.js');
    window.heard = [];
    window.opened = 0;
    window.client = connect(url, given);
    client.onStatus(({ state }) => { if (state === 'open') opened++; });
    const group = client.group('room.1');
    group.on('note', ({ text }) => heard.push(text));
    group.on('subscribed', () => heard.push('subscribed'));
  }, [at, options]);
  await hears(page, 'subscribed');
  return page;
}

test('a bundle has one client, whatever else of the package it uses', () => {
  for (const [name, script] of Object.entries(made)) assert.equal(script.split('orgcast.v1').length - 1, 1, `clients in what ${name} made`);
});

for (const browser of browsers) {
  for (const name of Object.keys(made)) {
    test(`${browser.name}: what ${name} made shows events in React, Vue and Svelte, and those of a lost connection`, async () => {
      const page = await person(browser, 'ada');
      await page.evaluate((src) => import(src), `/${name}.js`);
      await shows(page, 'react', 'open ');
      await until(page, () => { window.joined ??= client.group('room.1').on('subscribed', () => { window.live = true; }); return window.live; });
      record('room.1', 'one');
      await shows(page, 'react', 'open one');
      wire.cut();
      record('room.1', 'two');
      for (const id of ['react', 'vue']) await shows(page, id, 'open one,two');
      await shows(page, 'svelte', 'two');
      assert.deepEqual(page.faults, []);
      await page.close();
    });
  }

  test(`${browser.name}: two tabs share a socket, and the second takes over`, async () => {
    const first = await plain(browser, 'ada', { share: true });
    const second = await plain(browser, 'ada', { share: true }, { beside: first });
    record('room.1', 'to both');
    for (const page of [first, second]) await hears(page, 'to both');
    for (const end = Date.now() + PATIENCE_MS; await connections() !== 1;) assert.ok(Date.now() < end, 'one socket for both');
    await first.close();
    await until(second, () => opened > 1 && heard.filter((what) => what === 'subscribed').length > 1);
    record('room.1', 'handed over');
    await hears(second, 'handed over');
    assert.deepEqual(await second.evaluate(() => heard.filter((what) => what !== 'subscribed')), ['to both', 'handed over']);
    await second.close();
  });

  test(`${browser.name}: tabs that share a socket see who is there, and a state stays over a lost connection`, async () => {
    const here = (page, want) => until(page, (text) => client.presence('room.here')?.users?.map(({ user_id, state }) => user_id + (state?.typing ? '…' : '')).sort().join() === text, want);
    const joins = (page) => page.evaluate(() => { window.room = client.group('room.here', { presence: true }); });
    const [one, other] = [`ivy-${browser.name}`, `joe-${browser.name}`];
    const first = await plain(browser, one, { share: true });
    const second = await plain(browser, one, { share: true }, { beside: first });
    for (const page of [first, second]) await joins(page);
    for (const page of [first, second]) await here(page, one);
    const third = await plain(browser, other);
    await joins(third);
    for (const page of [first, second, third]) await here(page, `${one},${other}`);
    await second.evaluate(() => room.setPresence({ typing: true }));
    for (const page of [first, second, third]) await here(page, `${one}…,${other}`);
    await third.close();
    for (const page of [first, second]) await here(page, `${one}…`);
    await first.close(); // the second takes over
    await until(second, () => opened > 1);
    const again = await plain(browser, other);
    await joins(again);
    for (const page of [second, again]) await here(page, `${one}…,${other}`);
    for (const page of [second, again]) await page.close();
  });

  test(`${browser.name}: receives over server-sent events`, async () => {
    const page = await plain(browser, 'ada', { transport: 'sse' }, { at: `ws://127.0.0.1:${wire.port}/ws/events` });
    assert.equal((await reaches(page, 'open')).transport, 'sse');
    record('room.1', 'over a stream');
    await hears(page, 'over a stream');
    await page.close();
  });

  test(`${browser.name}: a user who is revoked is not let in again`, async () => {
    const user = `eve-${browser.name}`;
    const page = await plain(browser, user);
    execFileSync(workshop.binary, ['revoke', 'user', '--redis', redis, '--directory', 'session', user]);
    assert.equal((await reaches(page, 'closed')).code, 4403);
    await page.close();
  });
}

/** A gateway that takes tokens, and a site that hands them out. */
async function withTokens() {
  const { settings, token } = await provider(workshop);
  let given = 0;
  const site = await workshop.listen(createServer(({ url }, response) => {
    response.setHeader('Content-Type', url === '/alone.js' ? 'text/javascript' : 'text/html');
    if (url.startsWith('/token/')) given++;
    response.end(url === '/alone.js' ? alone : url.startsWith('/token/') ? token('ada', Number(url.slice(7))) : '<!doctype html><title>Site</title>');
  }));
  const port = await freePort();
  const address = `http://127.0.0.1:${site}`;
  await workshop.run(workshop.binary, ['serve', '--listen', `127.0.0.1:${port}`, '--admin-listen', '127.0.0.1:0', '--redis', redis, ...settings, '--origins', address], (output) => output.includes('"serving"'));
  return { address, socket: `ws://127.0.0.1:${port}/ws/events`, given: () => given };
}

const tokens = await withTokens();

for (const browser of browsers) {
  for (const transport of ['websocket', 'sse']) {
    test(`${browser.name}: a token of an identity provider is renewed, over ${transport}`, async () => {
      const page = await browser.open();
      await page.goto(tokens.address);
      const before = tokens.given();
      await page.evaluate(async ([socket, transport]) => {
        const { connect } = await import('/alone.js');
        window.heard = [];
        window.client = connect(socket, { transport, token: async () => (await fetch('/token/5')).text() });
        client.onStatus(({ state, code }) => heard.push(code ?? state));
        for (const type of ['token_accepted', 'error']) client.on(type, (frame) => heard.push(frame.code ?? type));
        client.group('room.1').on('note', ({ text }) => heard.push(text));
        await new Promise((resolve) => { client.on('subscribed', resolve); });
      }, [tokens.socket, transport]);
      const opened = ['connecting', 'open'];
      if (transport === 'sse') {
        await until(page, () => heard.filter((what) => what === 'open').length > 1); // the first stream has ended with its token
        await until(page, () => client.status.state === 'open');
      } else {
        await until(page, () => heard.filter((what) => what === 'token_accepted').length > 1);
        assert.deepEqual(await page.evaluate(() => heard), [...opened, 'token_accepted', 'token_accepted'], 'one connection, beyond the end of the first token');
      }
      assert.ok(tokens.given() - before > 1);
      record('room.1', 'with a newer token');
      await hears(page, 'with a newer token');
      assert.deepEqual(page.faults, []);
      await page.close();
    });
  }
}
