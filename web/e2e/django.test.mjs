// The Django site of examples/django with Channels and with Orgcast: real Django, daphne, gateway, Redis and browser.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { freePort, PATIENCE_MS, root, Workshop } from './gateway.js';
import { proxy } from './proxy.js';

const workshop = new Workshop();
after(() => workshop.close());

const folder = join(root, 'examples', 'django');
const keys = { session: 'session-key-of-thirty-two-bytes!', publish: 'publish-key-of-thirty-two-bytes!' };

/** Starts the site under daphne and returns its port and what stops it. */
async function site(settings, environment) {
  const env = { ...process.env, PYTHONPATH: `${folder}:${join(root, 'clients', 'python', 'src')}`, DJANGO_SETTINGS_MODULE: `shop.${settings}`, PYTHONDONTWRITEBYTECODE: '1', ...environment };
  const { found: [, port], stop } = await workshop.start('/usr/bin/env', [
    ...Object.entries(env).filter(([name]) => /^(PYTHON|DJANGO|SHOP)/.test(name)).map(([name, value]) => `${name}=${value}`),
    '/usr/bin/python3', '-m', 'daphne', '-b', '127.0.0.1', '-p', '0', 'shop.asgi:application',
  ], (output) => output.match(/Listening on TCP address 127\.0\.0\.1:(\d+)/));
  return { port: Number(port), stop };
}

/** Runs manage.py. */
function manage(environment, input, ...args) {
  const env = { ...process.env, PYTHONPATH: `${folder}:${join(root, 'clients', 'python', 'src')}`, PYTHONDONTWRITEBYTECODE: '1', ...environment };
  return execFileSync('/usr/bin/python3', [join(folder, 'manage.py'), ...args], { env, input, encoding: 'utf8' });
}

/** A page of a user who has signed in. */
async function signIn(origin, user) {
  const context = await (await workshop.browser()).newContext();
  const page = await context.newPage();
  const person = { page, context, frames: () => page.locator('#frames li').allTextContents(), closed: 0 };
  page.on('websocket', (socket) => socket.on('close', () => { person.closed++; }));
  await page.goto(`${origin}/sign-in?user=${user}&password=${user}-password`);
  await title(page, 'open');
  return person;
}

/** Waits until the page says what became of its socket. */
const title = (page, text) => page.waitForFunction((wanted) => document.title === wanted, text, { timeout: PATIENCE_MS });

async function eventually(holds) {
  const end = Date.now() + PATIENCE_MS;
  while (!holds()) {
    assert.ok(Date.now() < end, `${holds} has not come true`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function get(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200, await response.text());
}

test('the example site with Channels and with Orgcast', async () => {
  const redis = await workshop.redis();
  const common = { SHOP_DB: join(workshop.dir, 'db.sqlite3'), SHOP_REDIS: `redis://127.0.0.1:${redis}` };
  manage(common, undefined, 'migrate', '--run-syncdb', '--verbosity', '0');
  manage(common, readFileSync(join(folder, 'seed.py'), 'utf8'), 'shell');

  const frames = {};
  { // with Channels
    const { port, stop } = await site('settings', common);
    const origin = `http://127.0.0.1:${await proxy(workshop, port, () => port)}`;
    const ada = await signIn(origin, 'ada');
    await get(`${origin}/grow?organization=acme&percent=10`);
    await ada.page.locator('#frames li').first().waitFor();
    frames.channels = await ada.frames();
    await stop();
  }

  for (const [name, key] of Object.entries(keys)) writeFileSync(join(workshop.dir, name), key);
  const environment = { ...common, SHOP_SESSION_KEY: keys.session, SHOP_PUBLISH_KEY: keys.publish };
  let gatewayPort;
  const privatePort = await freePort(); // the site must know the gateway, and the gateway the site
  environment.SHOP_GATEWAY = `http://127.0.0.1:${privatePort}`;
  const django = await site('settings_orgcast', environment);
  const origin = `http://127.0.0.1:${await proxy(workshop, django.port, () => gatewayPort)}`;

  const printed = manage({ ...environment, DJANGO_SETTINGS_MODULE: 'shop.settings_orgcast' }, undefined, 'orgcast_check', '--ask', '--url', `http://127.0.0.1:${django.port}`);
  const flags = [...printed.matchAll(/^ {2}(--[\w-]+) (\S+)/gm)].flatMap(([, flag, value]) => {
    if (flag === '--origins') return [flag, origin];
    if (value === 'FILE') return [flag, join(workshop.dir, flag.includes('session') ? 'session' : 'publish')];
    return [flag, value];
  });
  [, gatewayPort] = (await workshop.run(workshop.binary, ['serve', ...flags, '--routes-file', join(folder, 'routes.yaml'), '--redis', `redis://127.0.0.1:${redis}/0`,
    '--listen', '127.0.0.1:0', '--admin-listen', `127.0.0.1:${privatePort}`], (output) => output.match(/"serving".*?"public":"127\.0\.0\.1:(\d+)"/)));

  const ada = await signIn(origin, 'ada');
  const bob = await signIn(origin, 'bob');
  await get(`${origin}/grow?organization=acme&percent=10`);
  await ada.page.locator('#frames li').first().waitFor();
  await get(`${origin}/grow?organization=globex&percent=20`);
  await bob.page.locator('#frames li').first().waitFor();
  frames.orgcast = await ada.frames();
  assert.deepEqual(frames.orgcast, frames.channels, 'the same path and the same frame, byte for byte');
  assert.match((await bob.frames()).join(), /^\{"type":"report_update","status":"running","percent":20\}$/, 'and nothing of the other organization');

  await ada.page.evaluate(() => fetch('/password?password=another'));
  await eventually(() => ada.closed === 1);
  await title(ada.page, 'open'); // by itself, with the cookie that the answer has brought
  await get(`${origin}/grow?organization=acme&percent=30`);
  await ada.page.locator('#frames li').filter({ hasText: '30' }).waitFor();

  manage(environment, 'from shop.models import Membership\nMembership.objects.filter(user__username="bob").update(active=False)\n', 'shell');
  await bob.page.waitForFunction(() => document.title !== 'open', undefined, { timeout: PATIENCE_MS }); // nothing is announced

  await ada.page.evaluate(() => fetch('/sign-out'));
  await title(ada.page, 'closed 4401');
});

test('docs/django.md shows the lines of the example', () => {
  const page = readFileSync(join(root, 'docs', 'django.md'), 'utf8');
  const example = ['shop/settings_orgcast.py', 'routes.yaml', 'nginx-orgcast.conf'].map((name) => readFileSync(join(folder, name), 'utf8')).join('\n');
  const blocks = [...page.matchAll(/^```(python|yaml|nginx)\n(.*?)^```$/gms)].map(([, , text]) => text);
  assert.equal(blocks.length, 5);
  for (const text of blocks) assert.ok(example.includes(text), `the example has no\n${text}`);
});
