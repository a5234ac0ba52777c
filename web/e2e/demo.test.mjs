// The promise of the demo, checked in real browsers against the real binary: an event of one
// organization reaches its members and nobody else. An absence is proved by order: after the event
// that must not come, one that must come takes the same path, and arrives alone.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { root, Workshop } from './gateway.js';
import { accessible, seat, visit as open } from './page.js';

const workshop = new Workshop();
let browser;

before(async () => { browser = await workshop.browser(); });
after(() => workshop.close());

/** Opens the demo with two people. */
function visit(t, url, { left, right, ...options }) {
  return open(t, browser, `${url}/?left=${left}&right=${right}`, options);
}

const events = (page, name) => seat(page, name).locator('.events li .text');

/** Waits until the person at the seat is live and listens to the group. */
async function listens(page, name, group) {
  await seat(page, name).locator('.state[data-state="live"]').waitFor();
  await seat(page, name).locator(`.chip[data-group="${group}"][aria-pressed="true"]`).waitFor();
}

async function publish(page, name, group, text) {
  await seat(page, name).locator('.target').selectOption(group);
  await seat(page, name).locator('.draft').fill(text);
  await seat(page, name).getByRole('button', { name: 'Publish' }).click();
}

async function violations(url) {
  const status = await (await fetch(`${url}/demo/status`)).json();
  return status.violations;
}

for (const kind of ['embedded Redis', 'redis-server']) {
  describe(kind, () => {
    let url;
    let publishOutside; // from another program, if there is a Redis to reach

    before(async () => {
      if (kind === 'embedded Redis') {
        url = await workshop.demo();
        return;
      }
      const port = await workshop.redis();
      url = await workshop.demo('--redis', `redis://127.0.0.1:${port}/0`);
      publishOutside = (org, group, text) => execFileSync('redis-cli', ['-p', String(port), 'PUBLISH',
        `orgcast:{${org}}:group:${group}`, JSON.stringify({ type: 'note', organization_id: org, from: 'redis-cli', text })],
      { encoding: 'utf8' }).trim();
    });

    test('an event reaches its organization and never another one', async (t) => {
      const acme = await visit(t, url, { left: 'ada', right: 'alan' });
      const globex = await visit(t, url, { left: 'grace', right: 'greta' });
      for (const page of [acme, globex]) for (const name of ['left', 'right']) await listens(page, name, 'room.1');

      for (const [page, people] of [[acme, 'Ada, Alan'], [globex, 'Grace, Greta']]) {
        for (const name of ['left', 'right']) await seat(page, name).locator('.here').getByText(`Here in room.1: ${people}`, { exact: true }).waitFor();
      }

      if (publishOutside) assert.equal(publishOutside('acme', 'room.1', 'from acme'), '1', 'nodes that subscribed');
      else await publish(acme, 'left', 'room.1', 'from acme');
      for (const name of ['left', 'right']) await events(acme, name).filter({ hasText: /^from acme$/ }).waitFor();

      // The control: same group name, published later, by the other organization.
      if (publishOutside) assert.equal(publishOutside('globex', 'room.1', 'from globex'), '1', 'nodes that subscribed');
      else await publish(globex, 'left', 'room.1', 'from globex');
      for (const name of ['left', 'right']) {
        await events(globex, name).filter({ hasText: /^from globex$/ }).waitFor();
        assert.deepEqual(await events(globex, name).allTextContents(), ['from globex']);
      }
      await publish(acme, 'left', 'room.1', 'last');
      for (const name of ['left', 'right']) {
        await events(acme, name).filter({ hasText: /^last$/ }).waitFor();
        assert.deepEqual(await events(acme, name).allTextContents(), ['last', 'from acme']);
      }
      assert.equal(await violations(url), 0);
    });

    test('two people in one window keep their own sessions', async (t) => {
      const page = await visit(t, url, { left: 'ada', right: 'grace' });
      for (const name of ['left', 'right']) await listens(page, name, 'room.1');
      await publish(page, 'left', 'room.1', 'for Acme');
      const line = page.locator('#log > li').first();
      await line.locator('[data-seat="left"].got').waitFor();
      assert.match(await line.locator('[data-seat="left"]').textContent(), /Ada.*received in [\d.]+ ms/);
      assert.match(await line.locator('[data-seat="right"].never').textContent(), /Grace.*other organization: never sent/);
      await publish(page, 'right', 'room.1', 'for Globex');
      await events(page, 'right').filter({ hasText: /^for Globex$/ }).waitFor();
      assert.deepEqual(await events(page, 'right').allTextContents(), ['for Globex']);
    });

    test('a page that does not listen receives nothing', async (t) => {
      const page = await visit(t, url, { left: 'ada', right: 'alan' });
      for (const name of ['left', 'right']) await listens(page, name, 'room.1');
      await seat(page, 'right').locator('.chip[data-group="room.1"]').click();
      await seat(page, 'right').locator('.chip[data-group="room.1"][aria-pressed="false"]').waitFor();
      await publish(page, 'left', 'room.1', 'only for listeners');
      await events(page, 'left').filter({ hasText: /^only for listeners$/ }).waitFor();
      await publish(page, 'left', 'all', 'for everybody');
      await events(page, 'right').filter({ hasText: /^for everybody$/ }).waitFor();
      assert.deepEqual(await events(page, 'right').allTextContents(), ['for everybody']);
    });

    test('the suspended and those without organization are refused', async (t) => {
      const page = await visit(t, url, { left: 'sam', right: 'olga' });
      for (const [name, why] of [['left', /refused with 403: not an active member/], ['right', /refused with 403: .*no active organization/]]) {
        await seat(page, name).locator('.state[data-state="refused"]').waitFor();
        assert.match(await seat(page, name).locator('.state-text').textContent(), why);
        await publish(page, name, 'room.1', 'let me in');
        await seat(page, name).locator('.problem:not(:empty)').waitFor();
        // The page asked the demo why; this asks the gateway itself.
        const closed = await page.evaluate((path) => new Promise((resolve) => {
          const socket = new WebSocket(path, 'orgcast.v1');
          socket.onopen = () => resolve('open');
          socket.onclose = ({ code }) => resolve(code);
        }), `${url.replace('http', 'ws')}/seat/${name}/ws/events`);
        assert.equal(closed, 1006);
      }
      // The control: the same seat admits a member.
      await seat(page, 'left').locator('.person').selectOption('ada');
      await listens(page, 'left', 'room.1');
    });

    test('breaking in fails in every way that the page knows', async (t) => {
      const page = await visit(t, url, { left: 'ada', right: 'grace' });
      await page.getByRole('button', { name: 'Try to break in' }).click();
      await page.locator('#verdict[data-kind]:not([data-kind="running"])').waitFor();
      const outcomes = await page.locator('#attempts > li').evaluateAll((items) => items.map((item) => [item.dataset.kind, item.textContent]));
      for (const [kind_, text] of outcomes) assert.equal(kind_, 'held', text);
      assert.equal(outcomes.length, 7);
      assert.match(await page.locator('#verdict').textContent(), /7 attempts, 7 held off/);
      const raw = await page.locator('#attempts .raw').allTextContents();
      assert.equal(JSON.parse(raw[0]).code, 'unknown_group', 'what the gateway answered, as it came');
      assert.match(raw[3], /^HTTP 4\d\d \{"code":"/);
      assert.match(raw[6], /Globex only/);
      assert.doesNotMatch(raw[6], /Acme only/);
      // What the seats saw: Ada's event and Greta's each in its own organization.
      assert.deepEqual(await events(page, 'left').allTextContents(), ['Acme only']);
      assert.deepEqual(await events(page, 'right').allTextContents(), ['Globex only']);
      assert.equal(await violations(url), 0);
    });
  });
}

test('works by keyboard alone', async (t) => {
  const url = await workshop.demo();
  const page = await visit(t, url, { left: 'ada', right: 'grace' });
  await listens(page, 'left', 'room.1');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'person');
  await seat(page, 'left').locator('.chip[data-group="room.2"]').focus();
  await page.keyboard.press('Space');
  await listens(page, 'left', 'room.2');
  await seat(page, 'left').locator('.draft').focus();
  await page.keyboard.press('Enter');
  await events(page, 'left').filter({ hasText: 'Hello from Ada' }).waitFor();
});

for (const colorScheme of ['light', 'dark']) {
  test(`meets WCAG AA, contrast included, in ${colorScheme} colors`, async (t) => {
    const url = await workshop.demo();
    const page = await visit(t, url, { left: 'ada', right: 'sam', colorScheme, reducedMotion: 'reduce' });
    await listens(page, 'left', 'room.1');
    await seat(page, 'right').locator('.state[data-state="refused"]').waitFor();
    await publish(page, 'left', 'room.1', 'hello');
    await publish(page, 'right', 'room.1', 'let me in');
    await seat(page, 'right').locator('.problem:not(:empty)').waitFor();
    await seat(page, 'right').locator('.person').selectOption('grace');
    await listens(page, 'right', 'room.1');
    await publish(page, 'right', 'room.1', 'hello');
    await page.getByRole('button', { name: 'Try to break in' }).click();
    await page.locator('#verdict[data-kind="held"]').waitFor();
    await accessible(page);
  });
}

test('fits a phone', async (t) => {
  const url = await workshop.demo();
  const page = await visit(t, url, { left: 'ada', right: 'grace', viewport: { width: 390, height: 844 } });
  await listens(page, 'left', 'room.1');
  await publish(page, 'left', 'room.1', 'Hello from a small screen');
  await page.locator('#log [data-seat="left"].got').waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
});

// No test: it renews the picture in the README.
if (process.env.UPDATE_SCREENSHOTS === '1') test('docs/images/demo.png', async (t) => {
  const url = await workshop.demo();
  const page = await visit(t, url, { left: 'ada', right: 'grace', colorScheme: 'light', reducedMotion: 'reduce', deviceScaleFactor: 2 });
  for (const name of ['left', 'right']) await listens(page, name, 'room.1');
  for (const [name, group, text] of [['left', 'room.1', 'Invoice 4711 is paid'], ['right', 'room.1', 'Crawl finished: 128 pages'], ['left', 'all', 'Lunch is here']]) {
    await publish(page, name, group, text);
    await page.locator('#log > li').first().filter({ hasText: text }).locator('.got').waitFor();
  }
  await page.locator('#counter-detail', { hasText: '2 open sockets' }).waitFor();
  await page.mouse.move(0, 0);
  await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
  mkdirSync(join(root, 'docs', 'images'), { recursive: true });
  await page.screenshot({ path: join(root, 'docs', 'images', 'demo.png'), fullPage: false });
});
