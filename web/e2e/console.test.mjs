// The console in real browsers, in both scopes, against the real binary.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import puppeteer from 'puppeteer-core';
import { PATIENCE_MS, root, Workshop } from './gateway.js';
import { accessible, visit } from './page.js';

const ADMIN_KEY = 'admin-key-admin-key-admin-key-32';
const PUBLISH_KEY = 'publish-key-publish-key-publish-';
const CONSOLE_KEY = 'console-key-console-key-console-k';
const COOKIE_KEY = 'cookie-key-cookie-key-cookie-key';

const workshop = new Workshop();
let browser;
let site; // the origin of a page from which devices connect
let operators; // URLs
let open; // the public listener

before(async () => {
  [browser, site] = await Promise.all([workshop.browser(), blank()]);
  const redis = `redis://127.0.0.1:${await workshop.redis()}/0`;
  [, open, operators] = await workshop.run(workshop.binary, ['serve', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--redis', redis,
    '--session-keys', COOKIE_KEY, '--session-insecure', '--directory', 'session', '--origins', site, '--admin-key', ADMIN_KEY,
    '--publish-key', PUBLISH_KEY, '--console-path', '/console', '--console-key', CONSOLE_KEY], (output) => output.match(/"public":"([^"]+)","private":"([^"]+)"/));
});
after(() => workshop.close());

/** Serves an empty page and returns its origin. */
async function blank() {
  const server = createServer((_, response) => response.end('<!doctype html><title>Device</title>'));
  return `http://127.0.0.1:${await workshop.listen(server)}`;
}

/** Opens a browser of its own for a user, with a socket in it. Returns its page; socket() tells the close code, or null. */
async function device(t, user, organization, { userAgent } = {}) {
  const [name, value] = execFileSync(workshop.binary, ['session', 'mint', '--session-keys', COOKIE_KEY, '--session-insecure', user, organization],
    { encoding: 'utf8' }).trim().split(/=(.*)/s);
  const context = await browser.newContext({ userAgent });
  t.after(() => context.close());
  await context.addCookies([{ name, value, domain: '127.0.0.1', path: '/' }]);
  const page = await context.newPage();
  await page.goto(site);
  const connect = () => page.evaluate((url) => new Promise((resolve) => {
    globalThis.ended = new Promise((end) => {
      const socket = new WebSocket(url, 'orgcast.v1');
      socket.onmessage = ({ data }) => {
        const { type } = JSON.parse(data);
        if (type === 'welcome') socket.send(JSON.stringify({ type: 'subscribe', group: 'room.1' }));
        if (type === 'subscribed') resolve('open');
      };
      socket.onclose = ({ code }) => { end(code); resolve(code); };
    });
  }), `ws://${open}/ws/events`);
  assert.equal(await connect(), 'open');
  return { page, connect, ended: () => page.evaluate(() => globalThis.ended) };
}

/** Publishes a recorded event and returns its position. */
async function record(organization, group) {
  const response = await fetch(`http://${operators}/v1/publish`, {
    method: 'POST', headers: { authorization: `Bearer ${PUBLISH_KEY}` },
    body: JSON.stringify({ organization_id: organization, group, event: { type: 'note' }, record: true }),
  });
  const { results: [done] } = await response.json();
  return done;
}

/** Opens the console of operators with the key. */
async function operate(t, options) {
  const page = await visit(t, browser, `http://${operators}/console/`, options);
  await page.getByLabel('Admin key').fill('not the key');
  await page.getByRole('button', { name: 'Open', exact: true }).click();
  await page.getByText('This is not the admin key.').waitFor();
  assert.equal(await page.getByRole('heading', { name: 'Nodes', exact: true }).isVisible(), false);
  await page.getByLabel('Admin key').fill(ADMIN_KEY);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Nodes', exact: true }).waitFor();
  return page;
}

const row = (page, caption, name) => page.getByRole('table', { name: caption }).getByRole('row').filter({ hasText: name });

/** Saves a picture to look at, and renews the one in the docs. */
async function picture(page, name) {
  if (process.env.UPDATE_SCREENSHOTS === '1' && name === 'operators') {
    await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
    await page.screenshot({ path: join(root, 'docs', 'images', 'console.png') });
  }
  if (!process.env.PICTURES) return;
  mkdirSync(process.env.PICTURES, { recursive: true });
  await page.screenshot({ path: join(process.env.PICTURES, `${name}.png`), fullPage: true });
}

test('operators see nodes, organizations and groups, and ask why', async (t) => {
  await device(t, 'ada', 'acme');
  await device(t, 'grace', 'globex');
  const page = await operate(t);
  await row(page, 'Organizations', 'globex').waitFor();
  await row(page, 'Organizations', 'acme').getByRole('button').focus();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Organization acme' }).waitFor();
  await row(page, 'Groups', 'room.1').waitFor();
  await row(page, 'Connections', 'ada').waitFor();
  assert.equal(await row(page, 'Connections', 'grace').count(), 0);
  const { id } = await record('acme', 'room.1');
  await page.getByLabel('Position of a recorded event').fill(id);
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText(/offered it to 1 connection: 1 written/).waitFor();
  await accessible(page);
  await picture(page, 'operators');
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 1280);
});

test('operators end a session', async (t) => {
  const bob = await device(t, 'bob', 'initech');
  const page = await operate(t, { colorScheme: 'dark', reducedMotion: 'reduce', viewport: { width: 375, height: 812 } });
  await page.getByRole('button', { name: 'Open organization initech' }).click();
  await page.getByRole('button', { name: 'End session of bob' }).click();
  await page.getByRole('button', { name: 'Revoke' }).click();
  await page.getByText('Revoked. Its connections close within a second.').waitFor();
  assert.equal(await bob.ended(), 4401);
  await row(page, 'Revocations', 'session.ended').first().waitFor();
  await accessible(page);
  await picture(page, 'operators-375-dark');
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 375);
});

/** The address at which an administrator opens the console of an organization. */
function consoleOf(organization, user) {
  const expires = Math.floor(Date.now() / 1000) + 900;
  const mac = createHmac('sha256', CONSOLE_KEY).update(`orgcast.v1.console\n${organization}\n${user}\n${expires}`).digest('hex');
  return `http://${open}/console/#${new URLSearchParams({ org: organization, user, token: `${expires}.${mac}` })}`;
}

test('an administrator sees only the own organization and revokes a device', async (t) => {
  const phone = await device(t, 'mia', 'umbrella', { userAgent: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1' });
  const laptop = await device(t, 'mia', 'umbrella');
  const other = await device(t, 'mallory', 'hooli');
  const page = await visit(t, browser, consoleOf('umbrella', 'boss@umbrella.example'), { colorScheme: 'dark', viewport: { width: 375, height: 812 } });
  await page.getByRole('heading', { name: 'Organization umbrella' }).waitFor();
  assert.equal(page.url(), `http://${open}/console/`, 'the token is not in the address');
  const devices = page.getByRole('table', { name: 'Devices' }).getByRole('row').filter({ hasText: 'mia' });
  await devices.nth(1).waitFor();
  assert.doesNotMatch(await page.locator('body').innerText(), /mallory|hooli/);
  await accessible(page);
  await picture(page, 'organization-375-dark');
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 375);

  await page.getByRole('button', { name: 'Revoke a device of mia: Safari on iOS' }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await page.getByText('Revoked a device of mia.').waitFor();
  assert.equal(await phone.ended(), 4401);
  assert.notEqual(await phone.connect(), 'open', 'its session opens nothing more');
  await devices.nth(1).waitFor({ state: 'detached' });
  for (const { page: own } of [laptop, other]) {
    assert.equal(await own.evaluate(() => Promise.race([globalThis.ended, 'open'])), 'open');
  }
  await page.reload(); // the tab keeps the token
  await devices.first().waitFor();
});

test('an expired or foreign link opens nothing', async (t) => {
  const foreign = consoleOf('hooli', 'boss').replace('org=hooli', 'org=umbrella');
  const page = await visit(t, browser, foreign);
  await page.getByText('Open the console again from your application: this link is not valid.').last().waitFor();
  await accessible(page);
  assert.equal(await page.getByRole('heading', { name: 'Devices' }).isVisible(), false);
});

test('Firefox shows both scopes and revokes a device', async (t) => {
  const sam = await device(t, 'sam', 'stark');
  await device(t, 'tony', 'wayne');
  const firefox = await puppeteer.launch({ browser: 'firefox', executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr', timeout: PATIENCE_MS });
  t.after(() => firefox.close());
  const page = await firefox.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const faults = [];
  page.on('pageerror', (error) => faults.push(String(error)));
  const shows = (text) => page.waitForFunction((wanted) => document.body.innerText.includes(wanted), {}, text);
  const press = (name) => page.locator(`::-p-aria([name="${name}"][role="button"])`).click();

  await page.goto(`http://${operators}/console/`);
  await page.locator('#key').fill(ADMIN_KEY);
  await page.keyboard.press('Enter');
  await press('Open organization stark');
  await shows('Organization stark');
  await shows('room.1');

  await page.goto(consoleOf('stark', 'pepper'));
  await shows('Organization stark');
  await press('Revoke a device of sam: Chrome on Linux');
  await page.locator('dialog button.danger').click();
  await shows('Revoked a device of sam.');
  assert.equal(await sam.ended(), 4401);
  const text = await page.evaluate(() => document.body.innerText);
  assert.doesNotMatch(text, /tony|wayne/);
  assert.equal(page.url(), `http://${open}/console/`);
  assert.deepEqual(faults, [], 'errors on the page');
});
