// Gateways and browser clients of two versions together: what scripts/test-upgrade built is in the folder
// UPGRADE. Each pair of a gateway and a client has to do what two of one version do.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createServer, connect as dial } from 'node:net';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { promisify } from 'node:util';
import WebSocket from 'ws';
import { Workshop } from '../e2e/gateway.js';

const versions = ['old', 'new'];
const folder = process.env.UPGRADE ?? assert.fail('run scripts/test-upgrade');
const origin = 'https://app.example.com';
const PATIENCE_MS = 60_000;
const keys = { publish: 'publish-key-of-thirty-two-bytes!', session: '0123456789abcdef0123456789abcdef' };
const run = promisify(execFile);

let workshop, redis, clients, cookie;

// A browser sends the cookie and the origin of its page.
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { headers: { Cookie: cookie, Origin: origin } });
  }
};

before(async () => {
  process.env.GATEWAY_BINARY = join(folder, 'new-gateway');
  workshop = new Workshop();
  redis = await workshop.redis();
  clients = Object.fromEntries(await Promise.all(versions.map(async (v) => [v, await import(join(folder, `${v}-client.mjs`))])));
});

after(() => workshop?.close());

// Sessions of two versions have the same form: the old one mints all of them.
beforeEach(async () => {
  const { stdout } = await run(join(folder, 'old-gateway'), ['session', 'mint', '--session-keys', keys.session, 'ada', 'acme']);
  cookie = stdout.trim();
});

/** Starts a gateway of a version. */
async function gateway(version, ...more) {
  const { found, stop } = await workshop.start(join(folder, `${version}-gateway`), [
    'serve', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--redis', `redis://127.0.0.1:${redis}/0`, '--session-keys', keys.session,
    '--publish-key', keys.publish, '--origins', origin, '--directory', 'session', '--drain-wait', '0s', '--drain', '2s', ...more,
  ], (output) => output.match(/"serving".*?"public":"([^"]+)".*?"private":"([^"]+)"/));
  const g = { version, public: found[1], private: found[2], stop };
  await eventually(`${version} gateway is ready`, async () => (await fetch(`http://${g.private}/readyz`)).status === 200);
  return g;
}

async function eventually(what, check) {
  for (const end = Date.now() + PATIENCE_MS; ;) {
    const last = await check();
    if (last) return last;
    assert.ok(Date.now() < end, `never: ${typeof what === 'function' ? what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Calls a back end's path. */
async function call(g, path, body) {
  const answer = await fetch(`http://${g.private}/v1/${path}`, { method: 'POST', headers: { Authorization: `Bearer ${keys.publish}` }, body: JSON.stringify(body) });
  const text = await answer.text();
  assert.equal(answer.status, 200, `${g.version}: ${text}`);
  return JSON.parse(text);
}

const publish = (g, event, more = {}) => call(g, 'publish', { organization_id: 'acme', group: 'room.1', event: { type: 'note', ...event }, ...more });

/** Opens a page of a version at an address, in room.1. */
function page(version, address, group = 'room.1') {
  const p = { version, texts: [], gaps: [], states: [] };
  p.client = clients[version].connect(`ws://${address}/ws/events`, { transport: 'websocket' });
  p.client.on('note', (event) => p.texts.push(event.text));
  p.client.on('gap', (frame) => p.gaps.push(frame));
  p.client.onStatus((status) => p.states.push(status));
  let joined = false;
  p.client.on('subscribed', () => { joined = true; });
  p.joined = eventually(() => `the ${version} client joins at ${address}: ${JSON.stringify(p.states.at(-1))}`, () => joined);
  p.client.subscribe(group);
  return p;
}

/** A balancer in front of gateways: new connections go to the one that is set. */
async function balancer() {
  const b = { to: undefined };
  const sockets = new Set();
  const server = createServer((near) => {
    const [host, port] = b.to.public.split(':');
    const far = dial(Number(port), host);
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.on('error', () => {}).on('close', () => { sockets.delete(one); other.destroy(); });
    }
    near.pipe(far).pipe(near);
  });
  b.port = await workshop.listen(server);
  workshop.onClose(() => sockets.forEach((socket) => socket.destroy()));
  b.cut = () => sockets.forEach((socket) => socket.destroy());
  return b;
}

test('each client gets events of each publisher through each gateway, once and in order', async () => {
  const gateways = await Promise.all(versions.map((v) => gateway(v)));
  const pages = gateways.flatMap((g) => versions.map((v) => page(v, g.public)));
  await Promise.all(pages.map((p) => p.joined));
  const want = [];
  for (const g of gateways) {
    await publish(g, { text: `${g.version} published` });
    await publish(g, { text: `${g.version} recorded` }, { record: true, idempotency_key: `${g.version}:1` });
    await publish(g, { text: `${g.version} repeated` }, { record: true, idempotency_key: `${g.version}:1` });
    await run(join(folder, `${g.version}-gateway`), ['publish', '--redis', `redis://127.0.0.1:${redis}/0`, '--record', 'acme', 'room.1', `{"type":"note","text":"${g.version} command"}`]);
    want.push(`${g.version} published`, `${g.version} recorded`, `${g.version} command`);
  }
  // A key that one version used is used for the other.
  const [, fresh] = gateways;
  assert.equal((await publish(fresh, { text: 'again' }, { record: true, idempotency_key: 'old:1' })).results[0].repeated, true);
  await publish(fresh, { text: 'last' });
  for (const p of pages) {
    await eventually('the last event', () => p.texts.includes('last'));
    assert.deepEqual([p.texts, p.gaps], [[...want, 'last'], []], `${p.version} client`);
  }
  pages.forEach((p) => p.client.close());
  await Promise.all(gateways.map((g) => g.stop()));
});

test('a client that moves to a gateway of the other version gets what it missed, without a gap', async () => {
  const [older, newer] = await Promise.all(versions.map((v) => gateway(v)));
  for (const [from, to] of [[older, newer], [newer, older]]) {
    for (const v of versions) {
      const b = await balancer();
      b.to = from;
      const p = page(v, `127.0.0.1:${b.port}`);
      await p.joined;
      await publish(from, { text: 'before' }, { record: true });
      await eventually('before', () => p.texts.includes('before'));
      b.to = { public: '127.0.0.1:1' }; // nobody
      b.cut();
      await eventually('lost', () => p.states.at(-1).state === 'waiting');
      for (const g of [from, to]) await publish(g, { text: `missed, by ${g.version}` }, { record: true });
      b.to = to;
      p.client.retry();
      await eventually('what it missed', () => p.texts.length >= 3);
      await publish(from, { text: 'after' }, { record: true });
      await eventually('after', () => p.texts.includes('after'));
      assert.deepEqual([p.texts, p.gaps], [['before', `missed, by ${from.version}`, `missed, by ${to.version}`, 'after'], []], `${v} client, ${from.version} to ${to.version}`);
      p.client.close();
    }
  }
  await Promise.all([older.stop(), newer.stop()]);
});

test('a revocation that one version announces closes connections at both', async () => {
  const gateways = await Promise.all(versions.map((v) => gateway(v)));
  for (const by of gateways) {
    const pages = gateways.flatMap((g) => versions.map((v) => page(v, g.public)));
    await Promise.all(pages.map((p) => p.joined));
    await call(by, 'revoke', { type: 'organization.suspended', organization_id: 'acme' });
    for (const p of pages) {
      const { code } = await eventually('closed', () => p.states.find(({ state }) => state === 'closed'));
      assert.equal(code, 4403, `${p.version} client, revoked by ${by.version}`);
    }
  }
  await Promise.all(gateways.map((g) => g.stop()));
});

test('an organization has one limit of connections at gateways of both versions', async () => {
  const gateways = await Promise.all(versions.map((v) => gateway(v, '--max-per-organization', '3')));
  const pages = [page('old', gateways[0].public, 'all'), page('new', gateways[1].public, 'all'), page('old', gateways[1].public, 'all')];
  await Promise.all(pages.map((p) => p.joined));
  for (const g of gateways) {
    // Each node leases some room in advance, and takes it back from the others within seconds.
    const status = await eventually(`an answer of ${g.version}`, async () => {
      const socket = new globalThis.WebSocket(`ws://${g.public}/ws/events`, 'orgcast.v1');
      const answer = await new Promise((resolve) => socket.on('open', () => resolve(101)).on('unexpected-response', (_, r) => resolve(r.statusCode)).on('error', () => {}));
      socket.terminate();
      return answer;
    });
    assert.equal(status, 429, g.version);
  }
  pages.forEach((p) => p.client.close());
  await Promise.all(gateways.map((g) => g.stop()));
});

test('each version answers questions about both', async (t) => {
  const gateways = await Promise.all(versions.map((v) => gateway(v)));
  const pages = gateways.map((g) => page('new', g.public));
  await Promise.all(pages.map((p) => p.joined));
  const asked = (g, path) => fetch(`http://${g.private}/v1/${path}`);
  const statuses = await Promise.all(gateways.map(async (g) => (await asked(g, 'nodes')).status));
  const registered = gateways.filter((_, i) => statuses[i] === 200);
  assert.ok(registered.includes(gateways[1]), `GET /v1/nodes: ${statuses}`);
  if (registered.length < 2) t.diagnostic('the old version has no registry of nodes: it is not seen');
  for (const g of registered) {
    const ask = (path) => asked(g, path);
    const { nodes } = await eventually('all nodes', async () => {
      const answer = await (await ask('nodes')).json();
      return answer.nodes.length === registered.length && answer.complete && answer;
    });
    assert.equal(nodes.reduce((sum, n) => sum + n.connections, 0), registered.length, g.version);
    for (const path of ['connections', 'organizations', 'groups', 'revocations', 'explain?organization_id=acme&group=room.1&since=5m']) {
      const answer = await ask(path);
      if (answer.status === 404) continue; // that version does not have it yet
      const body = await answer.json();
      const answered = body.nodes.map((n) => n.state);
      t.diagnostic(`${g.version}: ${path}: ${answered}`);
      assert.ok(answered.every((state) => state === 'answered' || state === 'failed'), `${g.version}: ${path}: ${answered}`);
      if (path === 'connections') assert.equal(body.connections.length, registered.length, g.version);
    }
  }
  pages.forEach((p) => p.client.close());
  await Promise.all(gateways.map((g) => g.stop()));
});

test('a rolling replacement loses no recorded event', async (t) => {
  let nodes = await Promise.all([gateway('old'), gateway('old')]);
  const b = await balancer();
  [b.to] = nodes;
  const turn = setInterval(() => { b.to = nodes[Math.floor(Math.random() * nodes.length)]; }, 5);
  const pages = Array.from({ length: 10 }, (_, i) => page(versions[i % 2], `127.0.0.1:${b.port}`, 'room.roll'));
  await Promise.all(pages.map((p) => p.joined));
  let count = 0, rolling = true;
  const publishing = (async () => {
    for (; rolling || count < 200; count++) {
      const g = nodes[count % nodes.length];
      await call(g, 'publish', { organization_id: 'acme', group: 'room.roll', event: { type: 'note', text: String(count) }, record: true, idempotency_key: String(count) });
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  for (let i = 0; i < 2; i++) {
    const [leaving] = nodes;
    const arriving = await gateway('new');
    nodes = [nodes[1], arriving]; // the balancer looks away first
    b.to = arriving;
    await leaving.stop();
    await Promise.all(pages.map((p) => eventually('open again', () => p.client.status.state === 'open')));
  }
  rolling = false;
  await publishing;
  clearInterval(turn);
  const want = Array.from({ length: count }, (_, i) => String(i));
  for (const p of pages) {
    await eventually(`all ${count} events, after ${p.texts.length}`, () => p.texts.includes(String(count - 1)));
    assert.deepEqual([p.texts, p.gaps], [want, []], `${p.version} client`);
  }
  const moves = pages.map((p) => p.states.filter(({ state }) => state === 'open').length - 1);
  t.diagnostic(`${count} events, ${pages.length} clients, which reconnected ${moves} times`);
  assert.ok(moves.every((n) => n >= 1), `clients moved ${moves} times`);
  pages.forEach((p) => p.client.close());
  await Promise.all(nodes.map((g) => g.stop()));
});
