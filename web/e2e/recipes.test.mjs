// docs/client.md, block by block: each is put together with the packed client and runs in a browser against the real
// binary, or where the page says that it runs.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as esbuild from 'esbuild';
import { install } from './bundles.js';
import { until } from './drivers.js';
import { freePort, root, Workshop } from './gateway.js';
import { provider } from './provider.js';
import { proxy } from './proxy.js';

const workshop = new Workshop();
after(() => workshop.close());

const KEY = 'cookie-key-cookie-key-cookie-key';
const SIGNING_KEY = '0123456789abcdef0123456789abcdef';
const redis = `redis://127.0.0.1:${await workshop.redis()}/0`;
const browser = await workshop.browser();

const folder = join(workshop.dir, 'application');
mkdirSync(folder);
const modules = join(root, 'web', 'node_modules');
const links = ['react', 'react-dom', 'vue', 'svelte', 'ws', 'typescript', 'csstype', '@types'];
const installed = install(folder, Object.fromEntries(links.map((name) => [name, join(modules, name)])));
writeFileSync(join(folder, 'package.json'), '{"private":true,"type":"module"}');

/** The blocks of the page that no test has taken yet: {language, text}. */
const blocks = [...readFileSync(join(root, 'docs', 'client.md'), 'utf8').matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, text]) => ({ language, text }));

/** Takes the block of a language that has a text. */
function take(language, has = '') {
  const at = blocks.findIndex((block) => block.language === language && block.text.includes(has));
  assert.ok(at >= 0, `no block of ${language} with ${has} is left`);
  return blocks.splice(at, 1)[0].text;
}

/** Returns the text with other names in it, each of which it must have. */
function renamed(text, names) {
  return Object.entries(names).reduce((now, [name, other]) => {
    assert.ok(now.includes(name), `no ${name} in ${now}`);
    return now.replaceAll(name, other);
  }, text);
}

const mint = (user) => execFileSync(workshop.binary, ['session', 'mint', '--session-keys', KEY, '--session-insecure', user, 'acme'], { encoding: 'utf8' }).trim();
const publish = (group, event, ...flags) => execFileSync(workshop.binary, ['publish', '--redis', redis, ...flags, 'acme', group, JSON.stringify(event)]);
const record = (group, event) => publish(group, event, '--record');

/** The site: scripts and markup of the block at hand, a sign-in, and what blocks ask of a back end. */
let script = '';
let markup = '';
let refuses = false; // messages
let tokens; // of an identity provider
const answers = {
  '/script.js': () => script,
  '/api/token?group=invoice_7': () => execFileSync('node', ['--input-type=module', '--eval',
    `import { signGroup } from ${JSON.stringify(join(root, 'clients', 'node', 'orgcast.mjs'))}; process.stdout.write(signGroup('${SIGNING_KEY}', 'acme', 'invoice_7', ${Math.floor(Date.now() / 1_000) + 600}))`], { encoding: 'utf8' }),
  '/api/access-token': () => tokens.token('ada', 600),
};
const site = await workshop.listen(createServer(async (request, response) => {
  const { url, headers } = request;
  let body = '';
  for await (const part of request) body += part;
  response.setHeader('Content-Type', url === '/script.js' ? 'text/javascript' : url.startsWith('/api/') ? 'text/plain' : 'text/html; charset=utf-8');
  if (url.startsWith('/sign-in/')) response.setHeader('Set-Cookie', `${mint(url.slice(9))}; path=/`);
  if (url === '/api/me' && !headers.cookie) response.statusCode = 401;
  if (url === '/api/messages') {
    response.statusCode = refuses ? 500 : 200;
    const { id, text } = JSON.parse(body);
    if (!refuses) record('room.1', { type: 'message', id, text });
  }
  response.end(answers[url]?.() ?? `<!doctype html><title>Site</title>${markup}`);
}));
let gateway;
const origin = `http://127.0.0.1:${await proxy(workshop, site, () => gateway)}`;
const serve = async (...settings) => Number((await workshop.run(workshop.binary, ['serve', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--redis', redis, ...settings],
  (output) => output.match(/"public":"127.0.0.1:(\d+)"/)))[1]);
const cookies = ['--session-keys', KEY, '--session-insecure', '--directory', 'session'];
gateway = await serve(...cookies, '--origins', origin, '--signing-key', SIGNING_KEY, '--presence-policy', 'room.*=states');

/** Puts a block together with what the test adds to it. */
async function bundle(text, language = 'js') {
  const { outputFiles } = await esbuild.build({
    stdin: { contents: text, resolveDir: folder, loader: language }, jsx: 'automatic', bundle: true, format: 'esm', write: false,
    define: { 'process.env.NODE_ENV': '"production"' },
  });
  return outputFiles[0].text;
}

/** Opens a page with a block in it, as a user, if one is named. */
async function open(t, text, { user, html = '', language, inside } = {}) {
  [script, markup] = [await bundle(text, language), html];
  const context = inside ?? await browser.newContext();
  if (!inside) t.after(() => context.close());
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  await page.goto(user ? `${origin}/sign-in/${user}` : `${origin}/`);
  await page.evaluate(() => import('/script.js'));
  return page;
}

const opens = (page) => until(page, () => client.status.state === 'open');

/** What a test adds to a block: its client, and the groups in which it is by now. */
const seen = `
globalThis.client = client;
globalThis.groups = [];
client.on('subscribed', ({ group }) => groups.push(group));
`;
const joins = (page, group) => until(page, (name) => groups.includes(name), group);
const reads = (page, selector, text) => until(page, ([at, want]) => document.querySelector(at)?.textContent === want, [selector, text]);

test('the first page: a file, its server, an event, and a restart of the gateway', async (t) => {
  const html = take('html');
  const [build, serveFiles] = take('console', 'make client').trim().split('\n');
  assert.equal(build, '$ make client && cp web/client/dist/orgcast.min.js page/');
  const directory = join(workshop.dir, 'page');
  mkdirSync(directory);
  copyFileSync(join(installed, 'dist', 'orgcast.min.js'), join(directory, 'orgcast.min.js'));
  const [files, port] = [await freePort(), await freePort()];
  writeFileSync(join(directory, 'index.html'), renamed(html, { 'localhost:8080': `localhost:${port}` }));
  const [command, ...args] = renamed(serveFiles, { '$ ': '', '8000': String(files) }).split(' ');
  await workshop.run(command, ['-u', ...args], (output) => output.match(/Serving HTTP/));
  const up = () => workshop.start(workshop.binary, ['serve', '--listen', `127.0.0.1:${port}`, '--admin-listen', '127.0.0.1:0', '--drain-wait', '0s', '--drain', '0s', '--redis', redis,
    ...cookies, '--origins', `http://localhost:${files}`], (output) => output.includes('"serving"'));
  const first = await up();
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const [said, settings] = renamed(take('console', 'bin/gateway publish'), { '$ bin/gateway publish ': '' }).trim().match(/^(.*) '(.*)'$/).slice(1);
  const joined = page.waitForEvent('websocket').then((socket) => socket.waitForEvent('framereceived', ({ payload }) => payload.includes('"subscribed"')));
  await page.goto(`http://localhost:${files}/#${mint('ada').replace('orgcast_session=', '')}`);
  await reads(page, '#status', 'open');
  await joined;
  execFileSync(workshop.binary, ['publish', '--redis', redis, ...said.split(' '), settings]);
  await reads(page, '#notes', 'hello');
  await first.stop();
  await until(page, () => document.querySelector('#status').textContent.startsWith('waiting ('));
  await up();
  await reads(page, '#status', 'open');
});

test('install: a path of the same origin, and a session that is over', async (t) => {
  const text = take('js', "location.assign('/login')");
  const page = await open(t, text + seen, { user: 'ada' });
  await opens(page);
  const stranger = await open(t, text);
  await stranger.waitForURL(`${origin}/login`);
});

test('React', async (t) => {
  const page = await open(t, `${take('jsx', 'export function Notes')}
    import { createRoot } from 'react-dom/client';
    createRoot(document.querySelector('main')).render(<Notes />);`, { user: 'ada', language: 'jsx', html: '<main></main>' });
  await until(page, () => document.querySelector('ul').ariaBusy === 'false');
  for (let n = 0; await page.locator('li').count() === 0; n++) publish('room.1', { type: 'note', text: `one ${n}` }); // it may not have joined yet
  assert.match(await page.locator('li').first().textContent(), /^one \d+$/);
});

test('Next.js: the component alone; make test-nextjs builds it', async (t) => {
  const page = await open(t, `${take('jsx', "'use client'")}
    import { createRoot } from 'react-dom/client';
    createRoot(document.querySelector('main')).render(<Live room="room.next" />);`, { user: 'ada', language: 'jsx', html: '<main></main>' });
  await until(page, () => document.querySelector('p').dataset.state === 'open');
  while (await page.locator('p').textContent() === 'nothing yet') publish('room.next', { type: 'note', text: 'one' }); // it may not have joined yet
  await reads(page, 'p', 'one');
});

test('Vue', async (t) => {
  const page = await open(t, `${take('js', '@orgcast/client/vue')}${seen}
    import { createApp, h } from 'vue';
    createApp({ setup, render() { return h('p', this.status.state + ' ' + this.notes); } }).mount('main');`, { user: 'ada', html: '<main></main>' });
  await joins(page, 'room.1');
  publish('room.1', { type: 'note', text: 'one' });
  await reads(page, 'p', 'open one');
});

test('Svelte', async (t) => {
  const page = await open(t, `${take('js', '@orgcast/client/svelte')}${seen}
    connection.subscribe(({ state }) => { document.querySelector('p').textContent = state; });
    progress.subscribe((event) => { if (event) document.querySelector('p').textContent = event.percent; });`, { user: 'ada', html: '<p></p>' });
  await joins(page, 'room.7');
  publish('room.7', { type: 'progress', percent: 40 });
  await reads(page, 'p', '40');
});

test('tokens of a language model: a reload goes on in the middle', async (t) => {
  const text = renamed(take('js', 'export function follow'), { 'limit: 500': 'limit: 2' }) + seen; // several pages
  const options = { user: 'ada', html: '<p id="answer"></p>' };
  const page = await open(t, text, options);
  await joins(page, 'room.answer.42');
  const sends = (from, to) => { for (let n = from; n < to; n++) record('room.answer.42', { type: 'token', n, text: ` w${n}` }); };
  sends(0, 3);
  await reads(page, '#answer', ' w0 w1 w2');
  await page.close();
  sends(3, 6);
  const again = await open(t, text, options);
  await reads(again, '#answer', ' w0 w1 w2 w3 w4 w5');
  sends(6, 8);
  record('room.answer.42', { type: 'done' });
  await until(again, () => document.querySelector('#answer').ariaBusy === 'false');
  await reads(again, '#answer', ' w0 w1 w2 w3 w4 w5 w6 w7');
});

test('an optimistic chat: shown at once, confirmed by the event, failed without one', async (t) => {
  const html = '<ol id="messages"></ol><form id="compose"><input name="text"><button>Send</button></form>';
  const text = take('js', '#compose') + seen;
  const page = await open(t, text, { user: 'ada', html });
  const other = await open(t, text, { user: 'alan', html });
  for (const one of [page, other]) await joins(one, 'room.1');
  const states = (one) => one.locator('#messages li').evaluateAll((items) => items.map((item) => [item.textContent, item.dataset.state]));
  await page.locator('input').fill('hello');
  await page.locator('input').press('Enter');
  for (const one of [page, other]) await one.locator('li[data-state=sent]').waitFor();
  assert.deepEqual(await states(page), [['hello', 'sent']], 'one message, though it was shown before');
  refuses = true;
  t.after(() => { refuses = false; });
  await page.locator('input').fill('lost');
  await page.locator('input').press('Enter');
  await page.locator('li[data-state=failed]').waitFor();
  assert.deepEqual(await states(other), [['hello', 'sent']]);
});

test('notifications: the unread ones of the time before count, until they are read', async (t) => {
  record('user.nina', { type: 'notification', text: 'while she was away' });
  const text = take('js', '#notifications') + seen;
  const html = '<button id="notifications">Notifications</button>';
  const page = await open(t, text, { user: 'nina', html });
  await reads(page, 'button', 'Notifications (1)');
  record('user.nina', { type: 'notification', text: 'now' });
  await reads(page, 'button', 'Notifications (2)');
  await page.locator('button').click();
  await reads(page, 'button', 'Notifications');
  record('user.nina', { type: 'notification', text: 'later' });
  await reads(page, 'button', 'Notifications (1)');
  const again = await open(t, text, { user: 'nina', html, inside: page.context() });
  await reads(again, 'button', 'Notifications (1)');
});

test('who is here: both come, type and leave', async (t) => {
  const text = take('js', 'setPresence') + seen;
  const html = '<p id="here"></p><input id="draft">';
  const page = await open(t, text, { user: 'ada', html });
  await reads(page, '#here', 'ada');
  const other = await open(t, text, { user: 'alan', html });
  for (const one of [page, other]) await reads(one, '#here', 'ada, alan');
  await other.locator('#draft').fill('well');
  for (const one of [page, other]) await reads(one, '#here', 'ada, alan …');
  await other.locator('#draft').fill('');
  await reads(page, '#here', 'ada, alan');
  await other.evaluate(() => client.close());
  await reads(page, '#here', 'ada');
});

test('who is here, in React', async (t) => {
  const text = `${renamed(take('jsx', 'export function Draft'), { 'room.1': 'room.draft' })}
    import { createRoot } from 'react-dom/client';
    createRoot(document.querySelector('main')).render(<Draft />);`;
  const options = { language: 'jsx', html: '<main></main>' };
  const page = await open(t, text, { user: 'ada', ...options });
  await reads(page, 'p', '1 here: ada');
  const other = await open(t, text, { user: 'alan', ...options });
  await reads(page, 'p', '2 here: ada, alan');
  await other.locator('input').fill('well');
  await reads(page, 'p', '2 here: ada, alan …');
});

test('a path without groups: a conversation', async (t) => {
  const page = await open(t, `import { connect } from '@orgcast/client';${take('js', '/ws/chat/')}`, { user: 'ada' });
  await reads(page, 'ol', 'hello');
});

test('a group with a signed token', async (t) => {
  const page = await open(t, `import { connect } from '@orgcast/client'; const client = connect('/ws/events');${seen}${take('js', 'invoice_7')}`, { user: 'ada' });
  await joins(page, 'invoice_7');
});

test('a history, page by page', async (t) => {
  for (let n = 0; n < 25; n++) record('room.back', { type: 'note', text: String(n) });
  const text = renamed(take('js', 'showEarlier'), { 'room.1': 'room.back' });
  const page = await open(t, `import { connect } from '@orgcast/client'; const client = connect('/ws/events');${seen}${text}
    document.querySelector('#earlier').onclick = showEarlier;`, { user: 'ada', html: '<ul id="messages"></ul><button id="earlier">Earlier</button>' });
  await joins(page, 'room.back');
  await page.locator('button').click();
  await until(page, () => document.querySelectorAll('li').length === 20);
  await page.locator('button').click();
  await page.locator('button').waitFor({ state: 'hidden' });
  assert.deepEqual(await page.locator('li').allTextContents(), Array.from({ length: 25 }, (_, n) => String(n)));
});

test('types: the block compiles, a typing error does not, and it runs', async (t) => {
  const text = `import { connect } from '@orgcast/client';\n${take('ts', 'interface Events')}`;
  const compile = (source) => {
    writeFileSync(join(folder, 'typed.ts'), source);
    return execFileSync('node', [join(modules, 'typescript', 'bin', 'tsc'), '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022,dom', '--types', '', 'typed.ts'], { cwd: folder, encoding: 'utf8' });
  };
  compile(text);
  assert.throws(() => compile(renamed(text, { "client.on('progress'": "client.on('progres'" })), ({ stdout }) => stdout.includes('typed.ts') && stdout.includes('progres'));
  const page = await open(t, text + seen, { user: 'ada', language: 'ts' });
  await opens(page);
});

test('outside of a page: Node with the package ws', async () => {
  const text = renamed(take('js', "from 'ws'"), { 'wss://live.example.com': `ws://127.0.0.1:${gateway}`, 'https://app.example.com': origin });
  writeFileSync(join(folder, 'node.js'), `${text}\nclient.onStatus(({ state, code }) => { if (state === 'open') { console.log('open'); client.close(); } else if (code !== 1000 && code) process.exit(1); });`);
  assert.equal(execFileSync('node', ['node.js'], { cwd: folder, env: { ...process.env, COOKIE: mint('ada') }, encoding: 'utf8' }), 'open\n');
});

test('a token of an identity provider', async (t) => {
  tokens = await provider(workshop);
  const port = await serve(...tokens.settings, '--origins', origin);
  const text = renamed(take('js', '/api/access-token'), { 'wss://live.example.com': `ws://127.0.0.1:${port}` });
  const page = await open(t, `import { connect } from '@orgcast/client';${text}${seen}`);
  await opens(page);
});

test('a check tells a refused login', async (t) => {
  const page = await open(t, `import { connect } from '@orgcast/client';${take('js', '/api/me')}${seen}`);
  await until(page, () => client.status.state === 'closed');
  assert.equal(await page.evaluate(() => client.status.code), 1006, 'after the first attempt');
});

test('every block of docs/client.md was run', () => assert.deepEqual(blocks, []));
