// The session is a lease, seen from the page: signing out, switching, being removed and being
// suspended end the open socket that they are about, without the page doing anything about it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Workshop } from './gateway.js';

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
  assert.equal(await seat(page, 'right').locator('.state').getAttribute('data-state'), 'live');
});

test('after a switch the page comes back in the other organisation', async (t) => {
  const page = await visit(t, 'mira', 'ada');
  await live(page, 'left', 'of acme');
  await press(page, 'left', 'Switch to Globex');
  await live(page, 'left', 'of globex');
  await press(page, 'right', 'Publish'); // for Acme
  await seat(page, 'right').locator('.events li').first().waitFor();
  await press(page, 'left', 'Publish'); // for Globex, and the first that arrives there
  await seat(page, 'left').locator('.events li').first().waitFor();
  assert.equal(await seat(page, 'left').locator('.events li').count(), 1);
  await press(page, 'left', 'Switch to Acme');
  await live(page, 'left', 'of acme');
});

test('a removed member is out until taken back', async (t) => {
  const page = await visit(t, 'alan', 'ada');
  await press(page, 'left', 'Remove from Acme');
  await state(page, 'left', 'closed with 4403');
  await press(page, 'left', 'Take back into Acme');
  await live(page, 'left', 'of acme');
});

test('a suspended organisation is out, the other is not', async (t) => {
  const page = await visit(t, 'greta', 'ada');
  await press(page, 'left', 'Suspend Globex');
  await state(page, 'left', 'closed with 4403');
  await press(page, 'left', 'Restore Globex');
  await live(page, 'left', 'of globex');
  assert.equal(await seat(page, 'right').locator('.state').getAttribute('data-state'), 'live');
});
