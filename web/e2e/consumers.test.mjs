// A page for each consumer, in a real browser, against the real demo: its first state, something
// live, its end. On each page two people of two organisations look at the same id, and what one of
// them starts is not to be seen by the other.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Workshop } from './gateway.js';
import { accessible, seat, visit } from './page.js';

const PHONE = { width: 390, height: 844 };

const workshop = new Workshop();
let browser;
let url;

before(async () => {
  browser = await workshop.browser();
  url = await workshop.demo();
});
after(() => workshop.close());

/** Opens the page of a consumer with Ada and Grace, both live. */
async function open(t, name, options = {}) {
  const page = await visit(t, browser, `${url}/consumers/${name}.html?left=ada&right=grace${options.id ? `&id=${options.id}` : ''}`,
    { reducedMotion: 'reduce', ...options });
  for (const side of ['left', 'right']) await seat(page, side).locator('.state[data-state="live"]').waitFor();
  return page;
}

/** What a person at the phone would have to do to see all of the page: nothing but scroll down. */
async function fits(page) {
  await page.setViewportSize(PHONE);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
}

const status = (page, side, kind) => seat(page, side).locator(`.status[data-kind="${kind}"]`);

/** The frames that a side has received, oldest first. */
async function frames(page, side) {
  const texts = await seat(page, side).locator('.wire li code').allTextContents();
  return texts.reverse().map((text) => JSON.parse(text));
}

test('the menu leads to every page and back', async (t) => {
  const page = await open(t, 'connection');
  const links = await page.locator('.menu a').evaluateAll((all) => all.map((link) => link.getAttribute('href')));
  for (const link of links) {
    await page.goto(url + link);
    await page.locator(`.menu a[aria-current="page"][href="${link}"]`).waitFor();
    for (const side of ['left', 'right']) await seat(page, side).locator('.state[data-state="live"]').waitFor();
  }
  await page.setViewportSize(PHONE);
  assert.equal(await page.locator('.menu ul').isVisible(), false);
  await page.locator('.menu-button').focus();
  await page.keyboard.press('Enter');
  assert.equal(await page.locator('.menu ul').isVisible(), true);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.waitForURL(`${url}/`);
});

test('connection test: greeting, echo, error, and people without an organisation', async (t) => {
  const page = await open(t, 'connection');
  const left = seat(page, 'left');
  await left.locator('.status', { hasText: 'connected' }).waitFor();
  await left.locator('.draft').fill('<b>hello</b>');
  await left.locator('.draft').press('Enter');
  await left.locator('.answers li', { hasText: '<b>hello</b>' }).waitFor();
  await left.getByRole('button', { name: 'Send something wrong' }).click();
  await left.locator('.answers li', { hasText: 'bad_message' }).waitFor();
  assert.equal(await left.locator('.answers b').count(), 0, 'text went in as HTML');
  assert.equal(await seat(page, 'right').locator('.answers li').count(), 0);

  await seat(page, 'right').locator('.person').selectOption('olga');
  await seat(page, 'right').locator('.state-text', { hasText: 'live as olga of no organisation' }).waitFor();
  await seat(page, 'right').locator('.draft').press('Enter');
  await seat(page, 'right').locator('.answers li', { hasText: 'echo' }).waitFor();
  await accessible(page);
  await fits(page);
});
