// Where things stand: nothing jumps while a page loads over a slow line, what is pressed is large enough for a
// finger, and the outcome of a press is in sight on a phone.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Workshop } from './gateway.js';
import { seat, visit } from './page.js';

const DESK = { width: 1280, height: 900 };
const PHONE = { width: 375, height: 812 };

/** The bound below which a visit counts as good (https://web.dev/articles/cls), halved. */
const MOST_SHIFT = 0.05;

const workshop = new Workshop();
let browser;
let url;

before(async () => {
  browser = await workshop.browser();
  url = await workshop.demo('--pace', '40ms');
});
after(() => workshop.close());

const pages = ['/', ...['chat', 'research', 'meta-tags', 'seo-audit', 'crawl', 'crew', 'board', 'images', 'connection'].map((name) => `/consumers/${name}.html`)];

const live = (page, name) => seat(page, name).locator('.state[data-state="live"]').waitFor();

/** Opens a page over a line of 400 kbit/s with 300 ms to the server and back, and returns what moved. */
async function shifts(t, path, viewport, then = async () => {}) {
  const context = await browser.newContext({ viewport });
  t.after(() => context.close());
  const page = await context.newPage();
  await page.addInitScript(() => {
    globalThis.shifts = [];
    new PerformanceObserver((list) => {
      for (const { value, hadRecentInput, sources } of list.getEntries()) {
        if (!hadRecentInput) globalThis.shifts.push({ value, moved: sources.map(({ node }) => `${node?.nodeName}.${node?.className ?? ''}`) });
      }
    }).observe({ type: 'layout-shift', buffered: true });
  });
  const devtools = await context.newCDPSession(page);
  await devtools.send('Network.enable');
  await devtools.send('Network.emulateNetworkConditions', { offline: false, latency: 300, downloadThroughput: 50_000, uploadThroughput: 25_000 });
  await page.goto(`${url}${path}`);
  for (const name of ['left', 'right']) await live(page, name);
  await page.locator('#counter[data-state="held"]').waitFor();
  await then(page);
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))); // drawn
  return page.evaluate(() => globalThis.shifts);
}

for (const [name, viewport, paths] of [['phone', PHONE, pages], ['desk', DESK, ['/', '/consumers/board.html', '/consumers/crawl.html']]]) {
  for (const path of paths) {
    test(`${path} does not jump while it loads over a slow line, on a ${name}`, async (t) => {
      const all = await shifts(t, path, viewport);
      const sum = all.reduce((total, { value }) => total + value, 0);
      assert.ok(sum < MOST_SHIFT, `layout shift ${sum.toFixed(3)}: ${JSON.stringify(all)}`);
    });
  }
}

for (const [name, viewport] of [['phone', PHONE], ['desk', DESK]]) {
  test(`the first page publishes for both people by itself, and nothing jumps, on a ${name}`, async (t) => {
    const all = await shifts(t, '/', viewport, async (page) => {
      for (const [side, person] of [['left', 'Ada'], ['right', 'Grace']]) await seat(page, side).locator('.events .text', { hasText: `Hello from ${person}` }).waitFor();
      await page.locator('#log .got').nth(1).waitFor();
    });
    const sum = all.reduce((total, { value }) => total + value, 0);
    assert.ok(sum < MOST_SHIFT, `layout shift ${sum.toFixed(3)}: ${JSON.stringify(all)}`);
  });
}

test('every page says under which address it stands, as the audit of the demo wants', async (t) => {
  for (const path of pages) {
    const page = await visit(t, browser, `${url}${path}`, {});
    assert.equal(await page.locator('link[rel="canonical"]').getAttribute('href'), path);
  }
});

test('a layout shift would be seen', async (t) => { // or the tests above show nothing
  const page = await visit(t, browser, `${url}/`, { viewport: DESK });
  await live(page, 'left');
  const value = await page.evaluate(() => new Promise((resolve) => {
    new PerformanceObserver((list) => resolve(list.getEntries()[0].value)).observe({ type: 'layout-shift' });
    document.querySelector('main').style.paddingTop = '300px';
  }));
  assert.ok(value > MOST_SHIFT, `got ${value}`);
});

test('what is pressed is large enough for a finger', async (t) => {
  for (const path of pages) {
    const page = await visit(t, browser, `${url}${path}`, { viewport: PHONE });
    await live(page, 'left');
    await page.locator('.menu-button').click();
    const small = await page.locator('button, select, summary, input, .menu a').evaluateAll((all) => all
      .filter((one) => one.offsetParent !== null && one.getBoundingClientRect().height < 40)
      .map((one) => `${one.tagName} ${one.className} ${one.textContent.trim().slice(0, 30)}: ${one.getBoundingClientRect().height}`));
    assert.deepEqual(small, [], path);
  }
});

test('the menu opens below its button, which stays where it is', async (t) => {
  for (const viewport of [PHONE, { width: 700, height: 900 }]) {
    const page = await visit(t, browser, `${url}/`, { viewport });
    await live(page, 'left');
    const button = page.locator('.menu-button');
    const heading = page.locator('h1');
    const before = [await button.boundingBox(), await heading.boundingBox()];
    await button.click();
    await page.locator('.menu ul').waitFor();
    assert.deepEqual([await button.boundingBox(), await heading.boundingBox()], before);
    const list = await page.locator('.menu ul').boundingBox();
    assert.ok(list.y >= before[0].y + before[0].height && list.x >= 0 && list.x + list.width <= viewport.width, JSON.stringify(list));
    await page.keyboard.press('Escape');
    assert.equal(await page.locator('.menu ul').isVisible(), false);
    assert.equal(await page.evaluate(() => document.activeElement.className), 'menu-button', 'the focus stays');
  }
});

test('on a phone a person who publishes sees who received it without scrolling', async (t) => {
  const page = await visit(t, browser, `${url}/?left=ada&right=grace`, { viewport: PHONE });
  for (const name of ['left', 'right']) {
    await seat(page, name).locator('.chip[data-group="room.1"][aria-pressed="true"]').waitFor();
  }
  const publish = seat(page, 'left').getByRole('button', { name: 'Publish' });
  await publish.scrollIntoViewIfNeeded();
  await publish.click();
  const outcome = seat(page, 'left').locator('.outcome-here');
  await outcome.locator('.got', { hasText: /Ada.*received in/ }).waitFor();
  await outcome.locator('.never', { hasText: /Grace.*never sent/ }).waitFor();
  const [box, pressed] = [await outcome.boundingBox(), await publish.boundingBox()];
  assert.ok(box.y - (pressed.y + pressed.height) < 40, 'it stands below the button');
  await seat(page, 'left').locator('.draft').fill('again');
  await publish.click();
  await page.locator('#log > li', { hasText: 'again' }).locator('[data-seat="left"].got').waitFor();
  assert.equal(await outcome.locator('.got').count(), 1, 'only the latest');
  await page.setViewportSize(DESK);
  assert.equal(await outcome.isVisible(), false, 'where the list is in sight it is enough');
});

test('the focus stays on the button after a break-in', async (t) => {
  const page = await visit(t, browser, `${url}/?left=ada&right=grace`, { viewport: DESK });
  for (const name of ['left', 'right']) await live(page, name);
  await page.locator('#breakin-start').focus();
  await page.keyboard.press('Enter');
  await page.locator('#verdict[data-kind="held"]').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'breakin-start');
});
