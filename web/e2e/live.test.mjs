// What the demo does while people watch: it takes Redis away, and brings a crowd.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { count, Watch } from '../demo/outage.js';
import { Workshop } from './gateway.js';
import { accessible, seat, visit } from './page.js';

const workshop = new Workshop();
let browser;
let url;

before(async () => {
  browser = await workshop.browser();
  url = await workshop.demo();
});
after(() => workshop.close());

/** Opens the first page and waits until both people are connected. */
async function open(t, query, options) {
  const page = await visit(t, browser, `${url}/?left=ada&right=grace${query}`, { reducedMotion: 'reduce', ...options });
  for (const name of ['left', 'right']) await seat(page, name).locator('.state[data-state="live"]').waitFor();
  return page;
}

const settled = (page, what) => page.locator(`#${what}-verdict[data-kind="held"]`).waitFor();

test('the page counts what is foreign, what comes twice, what is lost and what is out of order', () => {
  const events = ['a1', 'g1', 'a2', 'g2'].map((id) => ({ id, organization_id: id[0] === 'a' ? 'acme' : 'globex' }));
  const [a1, g1, a2, g2] = events;
  /** Counts what Ada of Acme and Grace of Globex received. */
  const counted = (acme, globex) => count([['acme', acme], ['globex', globex]].map(([org, arrivals]) => {
    let watcher;
    const seat = { org, live: true, watch: (given) => { watcher = given; } };
    const watch = new Watch({ seat, person: { name: '' }, town: { organizations: [] } }, () => {});
    for (const event of arrivals) watcher.frame(event, 0, { group: 'all' });
    return watch;
  }), events);
  const well = { expected: 4, arrived: 4, twice: 0, crossed: 0, ordered: true };
  assert.deepEqual(counted([a1, a2], [g1, g2]), well);
  assert.deepEqual(counted([a1, { id: 'other', organization_id: 'acme' }, a2], [g1, g2]), well, 'what is no part of it');
  assert.deepEqual(counted([a1, a2], [g1, a1, g2]), { ...well, crossed: 1 }, 'foreign');
  assert.deepEqual(counted([a1, a2], [g1, { ...a1, organization_id: 'globex' }, g2]), { ...well, crossed: 1 }, 'foreign, under another name');
  assert.deepEqual(counted([a1, a2, a1], [g1, g2]), { ...well, twice: 1 }, 'twice');
  assert.deepEqual(counted([a1], [g1, g2]), { ...well, arrived: 3 }, 'lost');
  assert.deepEqual(counted([a2, a1], [g1, g2]), { ...well, ordered: false }, 'out of order');
});

test('Redis is away for a second: sockets stay, and what was written arrives once and in order', async (t) => {
  const page = await open(t, '&away=1', { colorScheme: 'light' });
  await seat(page, 'right').locator('.chip[data-group="all"]').click(); // the page joins again
  const button = page.getByRole('button', { name: 'Pull the plug for 1 s' });
  await button.focus();
  await page.keyboard.press('Enter');
  await settled(page, 'outage');
  assert.match(await page.locator('#outage-verdict').textContent(),
    /^1\.\d s without Redis\. 2 sockets stayed open, 10 of 10 events arrived, 0 twice, 0 crossed\. All came in the order/);
  const report = await (await fetch(`${url}/demo/outage`)).json();
  assert.equal(report.state, 'done');
  for (const name of ['left', 'right']) {
    const texts = await seat(page, name).locator('.events li .text').allTextContents();
    assert.deepEqual(texts.filter((text) => text.startsWith('Written without Redis')), [5, 4, 3, 2, 1].map((n) => `Written without Redis (${n} of 5)`));
  }
  assert.ok(report.events.some(({ kept }) => kept), 'Redis was really away');
  await page.locator('#outage-sides').getByText(/Told: gap in .*room\.1/).first().waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'outage-start', 'the focus stays');
  await accessible(page); // all of it, with long lists
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.setViewportSize({ width: 390, height: 844 });
  await accessible(page, 'section:has(#outage-start)');
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
});

const startCrowd = (size) => fetch(`${url}/demo/crowd`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(size) });

test('a crowd of many organizations comes, and nothing crosses', async (t) => {
  const page = await open(t, '&people=60&organizations=12&seconds=1', { colorScheme: 'light' });
  const button = page.getByRole('button', { name: '60 people of 12 organizations' });
  await button.focus();
  await page.keyboard.press('Enter');
  await settled(page, 'crowd');
  const report = await (await fetch(`${url}/demo/crowd`)).json();
  assert.equal(report.state, 'done');
  assert.ok(report.published >= 12, 'an event for each organization');
  assert.equal(report.deliveries, report.published * 5);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'crowd-start', 'the focus stays');

  // The summary stays: a page that comes later shows it, too.
  const later = await open(t, '', { colorScheme: 'dark', viewport: { width: 390, height: 844 } });
  await settled(later, 'crowd');
  assert.equal(await later.evaluate(() => document.documentElement.scrollWidth), 390);
  for (const each of [page, later]) {
    const said = await each.locator('#crowd-verdict').textContent();
    assert.match(said, new RegExp(`^0 of ${report.deliveries.toLocaleString('en-US')} deliveries crossed, 0 came twice, 0 got lost\\.`));
    assert.match(said, /60 people of 12 organizations received [\d,]+ events in [\d.]+ s, .* ms \(p50\) and .* ms \(p99\)/);
    await accessible(each, 'section:has(#crowd-start)');
  }

  // While a crowd is there, another press shows this one. It is not waited for: the demo ends with it.
  assert.equal((await startCrowd({ people: 20, organizations: 2, seconds: 30 })).status, 202);
  const [refused] = await Promise.all([page.waitForResponse((r) => r.request().method() === 'POST' && r.url().endsWith('/demo/crowd')), button.click()]);
  assert.equal(refused.status(), 409);
  await page.locator('#crowd-tiles').getByText('20 / 20').waitFor();
  assert.equal(await page.locator('#crowd-verdict').getAttribute('data-kind'), 'running');
});
