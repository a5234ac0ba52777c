// The session is a lease, seen from the page: signing out, switching, being removed and being
// suspended end the open socket that they are about, without the page doing anything about it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { freePort, Workshop } from './gateway.js';

const workshop = new Workshop();
let browser;
let url;

before(async () => {
  browser = await workshop.browser();
  url = await workshop.demo();
});
after(() => workshop.close());

async function visit(t, left, right) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`${url}/?left=${left}&right=${right}`);
  for (const name of ['left', 'right']) await live(page, name);
  return page;
}

const seat = (page, name) => page.locator(`.seat[data-seat="${name}"]`);
const live = (page, name, org = '') => seat(page, name).locator('.state[data-state="live"]').filter({ hasText: org }).waitFor();
const state = (page, name, text) => seat(page, name).locator('.state-text').filter({ hasText: text }).waitFor();
const press = (page, name, button) => seat(page, name).getByRole('button', { name: button }).click();

test('signing out ends the socket of this session, not of the other', async (t) => {
  const page = await visit(t, 'ada', 'ada');
  await press(page, 'left', 'Sign out');
  await state(page, 'left', 'closed with 4401');
  await press(page, 'right', 'Publish');
  await seat(page, 'right').locator('.events li').first().waitFor();
  assert.match(await seat(page, 'left').locator('.revoked').textContent(), /^Socket ended [\d.]+ ms after the press, 0 events after\.$/);
  assert.equal(await seat(page, 'right').locator('.state').getAttribute('data-state'), 'live');
  await press(page, 'left', 'Sign in again');
  await live(page, 'left', 'of acme');
});

test('another person at the seat, in another tab: the first tab says so and acts for nobody', async (t) => {
  const first = await visit(t, 'ada', 'grace');
  const second = await first.context().newPage();
  await second.goto(`${url}/?left=ada&right=grace`);
  for (const name of ['left', 'right']) await live(second, name);
  for (const name of ['left', 'right']) await live(first, name); // the same people share their seats
  await second.goto(`${url}/?left=alan&right=grace`);
  await live(second, 'left', 'as alan');
  await state(first, 'left', 'another tab gave this seat to alan');
  await press(first, 'left', 'Sign in again');
  await live(first, 'left', 'as ada');
  await state(second, 'left', 'another tab gave this seat to ada');
});

test('after a switch the page comes back in the other organization', async (t) => {
  const page = await visit(t, 'mira', 'ada');
  await live(page, 'left', 'of acme');
  await press(page, 'left', 'Switch to Globex');
  await live(page, 'left', 'of globex');
  await seat(page, 'left').locator('.chip[data-group="room.1"][aria-pressed="true"]').waitFor();
  await press(page, 'right', 'Publish'); // for Acme
  await seat(page, 'right').locator('.events li').first().waitFor();
  await press(page, 'left', 'Publish'); // for Globex, and the first that arrives there
  await seat(page, 'left').locator('.events li').first().waitFor();
  assert.equal(await seat(page, 'left').locator('.events li').count(), 1);
  assert.equal(await seat(page, 'left').locator('.problem').textContent(), '', 'a wanted switch loses nothing');
  await press(page, 'left', 'Switch to Acme');
  await live(page, 'left', 'of acme');
});

test('a removed member is out until taken back', async (t) => {
  const page = await visit(t, 'alan', 'ada');
  await press(page, 'left', 'Remove from Acme');
  await state(page, 'left', 'closed with 4403');
  await press(page, 'left', 'Add back to Acme');
  await live(page, 'left', 'of acme');
});

test('a suspended organization is out, the other is not', async (t) => {
  const page = await visit(t, 'greta', 'ada');
  await press(page, 'left', 'Suspend Globex');
  await state(page, 'left', 'closed with 4403');
  await press(page, 'left', 'Restore Globex');
  await live(page, 'left', 'of globex');
  assert.equal(await seat(page, 'right').locator('.state').getAttribute('data-state'), 'live');
});

test('suspended and reloaded: it can be restored, and a break-in says why it does not run', async (t) => {
  const page = await visit(t, 'greta', 'ada');
  await press(page, 'left', 'Suspend Globex');
  await state(page, 'left', 'closed with 4403');
  await page.reload();
  await state(page, 'left', 'refused with 403: Globex is suspended');
  await seat(page, 'left').getByRole('button', { name: 'Restore Globex' }).waitFor();
  const start = page.locator('#breakin-start');
  await start.focus();
  await page.keyboard.press('Enter');
  await page.locator('#verdict', { hasText: 'Not run: Greta cannot take part: Globex is suspended.' }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'breakin-start', 'the focus stays');
  await page.getByRole('button', { name: 'Restore everyone and run' }).click();
  await page.locator('#verdict[data-kind="held"]').waitFor();
  assert.match(await page.locator('#verdict').textContent(), /7 attempts, 7 held off/);
  await page.getByRole('button', { name: 'Reset the demo' }).click();
  await live(page, 'left', 'of globex');
});

test('a demo that was restarted knows nobody: the page signs in again by itself', async (t) => {
  const port = await freePort();
  const start = () => workshop.start(workshop.binary, ['demo', '--listen', `127.0.0.1:${port}`], (output) => output.includes(`127.0.0.1:${port}/`));
  let { stop } = await start();
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${port}/?left=ada&right=grace`);
  for (const name of ['left', 'right']) await live(page, name);
  await stop();
  await page.evaluate(() => { // the seconds are counted down
    const text = document.querySelector('.seat[data-seat="left"] .state-text');
    globalThis.seconds = [];
    new MutationObserver(() => globalThis.seconds.push(Number(text.textContent.match(/trying again in (\d+) s/)?.[1])))
      .observe(text, { childList: true, characterData: true, subtree: true });
  });
  await page.waitForFunction(() => globalThis.seconds.some((n, i) => n >= 1 && n === globalThis.seconds[i - 1] - 1));
  ({ stop } = await start()); // with another Redis, so all sessions are gone
  t.after(() => stop());
  for (const name of ['left', 'right']) await live(page, name);
});
