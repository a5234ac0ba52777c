// The examples that need no framework, as their READMEs start them.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { freePort, root, Workshop } from './gateway.js';
import { accessible, visit } from './page.js';

const workshop = new Workshop();
after(() => workshop.close());
const browser = await workshop.browser();

/** Starts an example with the command of its README, on other ports, and returns its address. */
async function start(name, more = {}) {
  const [, command, argument] = readFileSync(join(root, 'examples', name, 'README.md'), 'utf8').match(/^```console\n\$ (\S+) (\S+)\n```$/m);
  const ports = { PORT: await freePort(), GATEWAY_PORT: await freePort(), ADMIN_PORT: await freePort(), REDIS_PORT: await freePort() };
  const environment = Object.entries({ ...ports, GATEWAY_BINARY: workshop.binary, ...more }).map(([variable, value]) => `${variable}=${value}`);
  const [, url] = await workshop.run('/usr/bin/env', [...environment, join(root, command), argument], (output) => output.match(/open (http:\S+)/));
  return url;
}

/** Opens an address and signs in. */
async function person(t, url, user) {
  const page = await visit(t, browser, url);
  await page.getByRole('button', { name: `Sign in as ${user}` }).click();
  await page.getByRole('status').filter({ hasText: `${user} of` }).and(page.getByText(/, open$/)).waitFor();
  return page;
}

for (const name of ['kanban', 'streaming-chat']) {
  test(`${name} has less than 300 lines`, () => {
    const folder = join(root, 'examples', name);
    const lines = readdirSync(folder).reduce((sum, file) => sum + readFileSync(join(folder, file), 'utf8').split('\n').length - 1, 0);
    assert.ok(lines < 300, `${lines} lines`);
  });
}

test('kanban: cards move on every board of the organization, and on no other', async (t) => {
  const url = await start('kanban');
  const ada = await person(t, url, 'ada');
  const alan = await person(t, url, 'alan');
  const grace = await person(t, url, 'grace');
  await ada.getByLabel('New card').fill('Write the <b>manual</b>');
  await ada.keyboard.press('Enter');
  const card = (page, column) => page.locator('section').filter({ has: page.getByRole('heading', { name: column }) }).getByRole('listitem').filter({ hasText: 'Write the <b>manual</b>' });
  for (const page of [ada, alan]) await card(page, 'To do').waitFor();
  for (const page of [ada, alan]) await page.getByText('Here: ada, alan', { exact: true }).waitFor();
  await grace.getByText('Here: grace', { exact: true }).waitFor();
  await accessible(ada);

  await alan.getByRole('button', { name: /^Move .* to Doing$/ }).press('Enter');
  for (const page of [ada, alan]) await card(page, 'Doing').and(page.locator('[aria-busy=false]')).waitFor();
  assert.equal(await alan.evaluate(() => document.activeElement.textContent), '→', 'the keyboard stays at the card');
  await card(ada, 'Doing').dragTo(ada.locator('section').nth(2));
  for (const page of [ada, alan]) await card(page, 'Done').waitFor();

  // A change that the site refuses is taken back.
  await alan.route('**/api/cards', (route) => route.fulfill({ status: 500 }));
  await alan.getByRole('button', { name: /^Move .* to Doing$/ }).click();
  await card(alan, 'Done').waitFor();
  await alan.unroute('**/api/cards');
  const late = await person(t, url, 'alan');
  await card(late, 'Done').waitFor();
  await ada.getByRole('button', { name: /^Move .* to Archive$/ }).click();
  for (const page of [ada, alan, late]) await card(page, 'Done').waitFor({ state: 'detached' });
  assert.equal(await grace.getByRole('listitem').count(), 0);
});

test('streaming-chat: an answer grows on all pages, over a reload, and on none of another organization', async (t) => {
  const url = await start('streaming-chat', { PACE_MS: '100' });
  const ada = await person(t, url, 'ada');
  await ada.getByLabel('Question').fill('What is <i>this</i>?');
  await ada.keyboard.press('Enter');
  await ada.getByText('ada: What is <i>this</i>?', { exact: true }).waitFor();
  const answer = ada.locator('.answer');
  await answer.filter({ hasText: 'language' }).waitFor();
  await ada.reload();
  await answer.filter({ hasText: 'You asked' }).waitFor();
  assert.equal(await answer.getAttribute('aria-busy'), 'true', 'the reload was in the middle');
  const alan = await person(t, ada.url(), 'alan');
  const grace = await person(t, ada.url(), 'grace');
  const whole = 'You asked: What is <i>this</i>? I am not a language model, only a loop that says one word after the other, slowly enough for you to reload the page before it comes to its end. That was all. ';
  for (const page of [ada, alan]) {
    await page.locator('.answer[aria-busy=false]').waitFor();
    assert.equal(await page.locator('.answer').textContent(), whole);
  }
  await accessible(ada);
  assert.equal(await grace.getByRole('listitem').count(), 0);
});
