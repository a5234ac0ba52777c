// A page for each consumer, in a real browser, against the real demo: its first state, something
// live, its end. On each page two people of two organizations look at the same id, and what one of
// them starts is not to be seen by the other.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { root, Workshop } from './gateway.js';
import { accessible, seat, visit } from './page.js';

const PHONE = { width: 390, height: 844 };

const workshop = new Workshop();
let browser;
let url;

before(async () => {
  browser = await workshop.browser();
  url = await workshop.demo('--pace', '40ms');
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

/** The frames that a side has received of what it looks at, oldest first. */
async function frames(page, side) {
  const texts = await seat(page, side).locator('.wire li code').allTextContents();
  return texts.reverse().map((text) => JSON.parse(text));
}

/** Waits until a side has received a frame of the type, counted from its last welcome. */
const frame = (page, side, type) => seat(page, side).locator('.wire li code', { hasText: `{"type":"${type}"` }).first();

/**
 * Lets Ada start a job; Grace looks at the same id in her own organization meanwhile. Then it goes the
 * other way round. Nobody may see more than the first state of what the other started, whose events
 * have all come when the job has ended.
 */
async function checkApart(page, name, press, first) {
  for (const [one, other, org] of [['left', 'right', 'acme'], ['right', 'left', 'globex']]) {
    const before = new URL(page.url()).searchParams.get('id');
    await press(seat(page, one));
    await page.waitForFunction((id) => new URLSearchParams(location.search).get('id') !== id, before);
    await status(page, one, 'done').waitFor();
    assert.equal(await status(page, one, 'done').textContent(), 'completed', 'one word for one thing, whichever consumer says it');
    await frame(page, other, first).waitFor({ state: 'attached' });
    const id = new URL(page.url()).searchParams.get('id');
    for (const side of [one, other]) assert.match(await seat(page, side).locator('.place').textContent(), new RegExp(`\\b${id}\\b`));
    const seen = await frames(page, one);
    const events = seen.filter(({ organization_id: from, type }) => from !== undefined && type !== 'welcome');
    assert.ok(events.length >= 2, `${name}: ${events.length} live events`);
    for (const event of events) assert.equal(event.organization_id, org);
    const crossed = (await frames(page, other)).filter(({ organization_id: from, type }) => from === org && type !== 'welcome');
    assert.deepEqual(crossed, [], `${name}: events of ${org} at the other side`);
    assert.equal(await status(page, other, 'idle').count(), 1, `${name}: the other side has nothing to show`);
  }
  assert.equal(await page.locator('#check').getAttribute('data-kind'), 'held');
  assert.equal(await page.locator('#violations').textContent(), '0');
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

test('connection test: greeting, echo, error, and people without an organization', async (t) => {
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
  await seat(page, 'right').locator('.state-text', { hasText: 'live as olga of no organization' }).waitFor();
  await seat(page, 'right').locator('.draft').press('Enter');
  await seat(page, 'right').locator('.answers li', { hasText: 'echo' }).waitFor();
  await accessible(page);
  await fits(page);
});

for (const [name, { press, first, shows, late }] of Object.entries({
  research: {
    press: async (side) => {
      await side.locator('.query').fill('isolation of organizations');
      await side.locator('.query').press('Enter');
    },
    first: 'initial_state',
    shows: { '.steps li': /Read the question/, '.report .text': /passages in \d+ documents/, '.progress .figure': /^100 %$/ },
  },
  'meta-tags': {
    press: (side) => side.locator('.start button').click(),
    first: 'status_update',
    shows: { '.found h3': /\//, '.found .facts': /Orgcast/, '.progress .figure': /^100 %$/ },
  },
  'seo-audit': {
    press: (side) => side.locator('.start button').click(),
    first: 'audit.status',
    shows: { '.pages': /^1[0-9]$/, '.recent li': /has no description/, '.summary': /score/ },
  },
  crawl: {
    press: (side) => side.locator('.start button').click(),
    first: 'crawl_update',
    shows: { '.pages': /^1[0-9]$/, '.visited li': /200/, '.broken': /^0$/, '.beats': /^1[0-9]$/ },
    late: { '.visited li': /200/, '.beats': /^1[0-9]$/ },
  },
  images: {
    press: (side) => side.locator('.start button').click(),
    first: 'optimization_update',
    shows: { '.picture h3': /landscape/, '.variants .best': /kB/, '.facts': /saved/ },
  },
})) {
  test(`${name}: first state, live, end, and the same id at another organization`, async (t) => {
    const page = await open(t, name);
    for (const side of ['left', 'right']) await status(page, side, 'idle').waitFor();
    await checkApart(page, name, press, first);
    for (const [selector, text] of Object.entries(shows)) {
      assert.match(await seat(page, 'right').locator(selector).first().textContent(), text, selector);
    }
    // A page that comes later gets the same end as the first state.
    await page.reload();
    await status(page, 'right', 'done').waitFor();
    for (const [selector, text] of Object.entries(late ?? {})) {
      assert.match(await seat(page, 'right').locator(selector).first().textContent(), text, `late: ${selector}`);
    }
    await accessible(page);
    await fits(page);
  });
}

test('images: both versions are shown, to their own organization alone', async (t) => {
  const page = await open(t, 'images');
  await seat(page, 'left').locator('.start button').click();
  await status(page, 'left', 'done').waitFor();
  await page.waitForFunction(() => {
    const pictures = [...document.querySelectorAll('.looks img')];
    return pictures.length === 4 && pictures.every((picture) => picture.complete && picture.naturalWidth === 320);
  });
  const address = await seat(page, 'left').locator('.looks img').nth(1).getAttribute('src');
  const get = async (path) => (await page.request.get(new URL(path, page.url()).href)).status();
  assert.equal(await get(address), 200);
  assert.equal(await get(address.replace('seat=left', 'seat=right')), 404);
});

test('both sides start at once, and each sees its own', async (t) => {
  const page = await open(t, 'seo-audit');
  await page.locator('#both').click();
  for (const side of ['left', 'right']) await status(page, side, 'done').waitFor();
  for (const [side, org] of [['left', 'acme'], ['right', 'globex']]) {
    for (const { type, organization_id: from } of await frames(page, side)) {
      if (type !== 'audit.status') assert.equal(from, org);
    }
  }
});

test('each page shows who looks at the same thing in the same organization', async (t) => {
  const here = (page, side, names) => seat(page, side).locator('.here').getByText(`Here: ${names}`, { exact: true }).waitFor();
  const page = await open(t, 'crawl', { id: 'seen' });
  await here(page, 'left', 'Ada');
  await here(page, 'right', 'Grace'); // the same group name, of another organization
  await seat(page, 'right').locator('.person').selectOption('alan');
  for (const side of ['left', 'right']) await here(page, side, 'Ada, Alan');
  await seat(page, 'right').locator('.person').selectOption('olga'); // nobody's colleague
  await here(page, 'left', 'Ada');
  assert.equal(await seat(page, 'right').locator('.here').textContent(), '');
  await page.locator('.subject .id').fill('another');
  await page.getByRole('button', { name: 'Open', exact: true }).click();
  await here(page, 'left', 'Ada');
});

test('research: cancelled on the way', async (t) => {
  const slow = await workshop.demo('--pace', '2s');
  const page = await visit(t, browser, `${slow}/consumers/research.html`, {});
  await seat(page, 'left').locator('.state[data-state="live"]').waitFor();
  await seat(page, 'left').locator('.query').press('Enter');
  await status(page, 'left', 'running').waitFor();
  await seat(page, 'left').locator('.progress .figure', { hasText: /^[1-9]\d* %$/ }).waitFor();
  await seat(page, 'left').getByRole('button', { name: 'Cancel' }).click();
  await seat(page, 'left').locator('.status', { hasText: 'cancelled' }).waitFor();
  assert.ok(await seat(page, 'left').locator('.progress progress').evaluate((bar) => bar.value) > 0, 'the bar stays where it was');
});

test('a refused start says why, by code', async (t) => {
  const page = await open(t, 'crawl');
  await seat(page, 'left').locator('.url').fill('http://example.com/');
  await seat(page, 'left').locator('.start button').click();
  await seat(page, 'left').locator('.problem', { hasText: 'bad_request' }).waitFor();
});

test('narrow pages: what is said at length keeps to its own column', async (t) => {
  const page = await open(t, 'meta-tags', { viewport: PHONE });
  await seat(page, 'left').locator('.start button').click();
  await status(page, 'left', 'done').waitFor();
  const over = await page.locator('.facts dt').evaluateAll((all) => all.filter((dt) => dt.scrollWidth > dt.clientWidth).map((dt) => dt.textContent));
  assert.deepEqual(over, []);
});

test('crew: asks, is answered by its own organization, and ends', async (t) => {
  const page = await open(t, 'crew');
  await seat(page, 'left').locator('.go').click();
  await status(page, 'left', 'asks').waitFor();
  assert.equal(await seat(page, 'right').locator('.question').isVisible(), false);
  assert.match(await seat(page, 'left').locator('.messages').textContent(), /\(scripted\)/);
  await accessible(page);
  await fits(page);
  await seat(page, 'left').locator('.question input').fill('sessions');
  await seat(page, 'left').locator('.question input').press('Enter');
  await status(page, 'left', 'done').waitFor();
  assert.match(await seat(page, 'left').locator('.messages').textContent(), /sessions/);
  assert.equal(await seat(page, 'left').locator('.question').isVisible(), false);
  assert.equal(await seat(page, 'right').locator('.messages li').count(), 0);
});

test('board: one crew id, two boards; a card asks, is answered, and ends', async (t) => {
  const page = await open(t, 'board');
  await page.locator('#both').click();
  const asks = (side) => seat(page, side).locator('[data-column="asking"] .run');
  for (const side of ['left', 'right']) await asks(side).waitFor();
  const ids = await Promise.all(['left', 'right'].map((side) => asks(side).getAttribute('data-execution')));
  assert.equal(ids[0], ids[1], 'one id, two runs');
  assert.match(await asks('left').locator('h3').textContent(), /^Run 1 · Ada · \d\d:\d\d$/);
  assert.deepEqual(await seat(page, 'left').locator('.board section:visible').evaluateAll((columns) => columns.map(({ dataset }) => dataset.column)), ['asking'], 'columns with cards');
  await accessible(page);
  await fits(page);
  await asks('left').locator('input').fill('sessions');
  await asks('left').locator('button').click();
  await seat(page, 'left').locator(`[data-column="ended"] [data-execution="${ids[0]}"][data-outcome="done"]`).waitFor();
  // The other's card still waits, and neither board has a card of the other.
  assert.equal(await asks('right').getAttribute('data-execution'), ids[1]);
  for (const side of ['left', 'right']) assert.equal(await seat(page, side).locator('.run').count(), 1);
  // The open one is there for pages that come later.
  await page.reload();
  await asks('right').waitFor();
  await asks('right').locator('input').fill('tasks');
  await asks('right').locator('button').click();
  await seat(page, 'right').locator('[data-column="ended"] .run').waitFor();
});

test('board: by keyboard alone', async (t) => {
  const page = await open(t, 'board', { id: 'keys' });
  const asks = seat(page, 'left').locator('[data-column="asking"] .run');
  const focused = () => page.evaluate(() => {
    const { tagName, textContent } = document.activeElement;
    return `${tagName} ${textContent.trim()}`;
  });
  /** Presses Tab until what has the focus is that, but not forever. */
  const tabTo = async (what) => {
    for (let i = 0; i < 30; i++) {
      await page.keyboard.press('Tab');
      if (what.test(await focused())) return;
    }
    assert.fail(`Tab does not lead to ${what}, but to ${await focused()}`);
  };
  await tabTo(/^A Skip/);
  await page.keyboard.press('Enter');
  await tabTo(/^BUTTON Start a run$/);
  await page.keyboard.press('Enter');
  await asks.waitFor();
  await page.waitForFunction(() => document.getElementById('announcer').textContent.includes('Answer needed'));
  await tabTo(/^INPUT/);
  await page.keyboard.type('sessions');
  await page.keyboard.press('Enter');
  await seat(page, 'left').locator('[data-column="ended"] .run[data-outcome="done"]').waitFor();
  // The card has moved, and the focus has moved with it.
  assert.match(await focused(), /^LI /);
  await tabTo(/^SUMMARY Frames/);
  await page.keyboard.press('Enter');
  await seat(page, 'left').locator('.wire li code', { hasText: '"task_complete"' }).waitFor();
});

test('chat: one id, two conversations, and none for a colleague', async (t) => {
  const page = await open(t, 'chat');
  const talk = (side) => seat(page, side).locator('.messages');
  await seat(page, 'left').locator('.draft').press('Enter'); // what the page suggests
  await talk('left').locator('li', { hasText: 'From security.md, “How organizations are kept apart”' }).waitFor();
  await seat(page, 'left').locator('.draft').fill('   ');
  await seat(page, 'left').locator('.draft').press('Enter');
  await seat(page, 'left').locator('.problem', { hasText: 'Write something first.' }).waitFor();
  assert.equal(await talk('left').locator('.mine').count(), 1, 'nothing was said');
  await seat(page, 'left').locator('.draft').fill('What is <b>isolated</b>?');
  await seat(page, 'left').locator('.draft').press('Enter');
  await talk('left').locator('.mine', { hasText: 'isolated' }).waitFor(); // else the status is still that of the first answer
  await status(page, 'left', 'done').waitFor();
  assert.equal(await status(page, 'left', 'done').textContent(), 'completed');
  assert.match(await talk('left').textContent(), /ada.*What is <b>isolated<\/b>\?.*\(scripted\)/);
  await seat(page, 'right').locator('.draft').fill('And with us?');
  await seat(page, 'right').locator('.draft').press('Enter');
  await status(page, 'right', 'done').waitFor();
  assert.doesNotMatch(await talk('right').textContent(), /isolated\?|ada/);
  assert.doesNotMatch(await talk('left').textContent(), /grace/);

  // A message that is edited leaves the conversation with its answers, and comes back as a draft.
  await seat(page, 'left').getByRole('button', { name: 'Edit: What is <b>isolated</b>?' }).click();
  await talk('left').locator('li', { hasText: 'are removed' }).waitFor();
  assert.doesNotMatch(await talk('left').textContent(), /isolated/);
  assert.equal(await seat(page, 'left').locator('.draft').inputValue(), 'What is <b>isolated</b>?');
  assert.match(await talk('right').textContent(), /And with us\?/);
  await page.reload();
  await seat(page, 'left').locator('.state[data-state="live"]').waitFor();
  await talk('left').locator('li', { hasText: 'are removed' }).waitFor();
  assert.doesNotMatch(await talk('left').textContent(), /isolated/);

  await seat(page, 'left').getByRole('button', { name: 'Start a crew' }).click();
  await seat(page, 'left').locator('.question').waitFor();
  await accessible(page);
  await fits(page);
  await seat(page, 'left').locator('.question input').fill('sessions');
  await seat(page, 'left').locator('.question input').press('Enter');
  await status(page, 'left', 'done').waitFor();

  // Alan works with Ada. To him her conversation is not there.
  await seat(page, 'left').locator('.person').selectOption('alan');
  await seat(page, 'left').locator('.state[data-state="apart"] .state-text', { hasText: 'someone else’s (4404)' }).waitFor(); // not a fault
  assert.equal(await talk('left').locator('li').count(), 0);
});

// No test: it renews the picture in the README.
if (process.env.UPDATE_SCREENSHOTS === '1') test('docs/images/board.png', async (t) => {
  const page = await open(t, 'board', { id: 'press', colorScheme: 'light', deviceScaleFactor: 2, viewport: { width: 1280, height: 960 } });
  const asks = (side) => seat(page, side).locator('[data-column="asking"] .run');
  await page.locator('#both').click();
  for (const side of ['left', 'right']) await asks(side).waitFor();
  await asks('left').locator('input').fill('sessions');
  await asks('left').locator('button').click();
  await seat(page, 'left').locator('[data-column="ended"] .run').waitFor();
  await seat(page, 'left').locator('.go').click();
  await asks('left').waitFor();
  await page.mouse.move(0, 0);
  await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
  await page.screenshot({ path: join(root, 'docs', 'images', 'board.png') });
});

test('what is not sent is kept, and the page says so', async (t) => {
  const page = await open(t, 'chat');
  const left = seat(page, 'left');
  await page.evaluate(() => fetch('/demo/sign-out', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"seat":"left"}' }));
  await left.locator('.state[data-state="refused"]').waitFor();
  await left.locator('.draft').fill('Do not lose this');
  await left.locator('.draft').press('Enter');
  await left.locator('.problem', { hasText: 'Not sent: no connection. Your text is kept.' }).waitFor();
  assert.equal(await left.locator('.draft').inputValue(), 'Do not lose this');
  await left.getByRole('button', { name: 'Sign in again' }).click();
  await left.locator('.state[data-state="live"]').waitFor();
  await left.locator('.draft').press('Enter');
  await left.locator('.messages .mine', { hasText: 'Do not lose this' }).waitFor();
  assert.equal(await left.locator('.draft').inputValue(), '');
});

test('the same number on both sides is two things, also after a double click and a reload', async (t) => {
  const page = await open(t, 'crawl');
  await page.locator('#both').dblclick();
  for (const side of ['left', 'right']) await status(page, side, 'done').waitFor();
  const id = new URL(page.url()).searchParams.get('id');
  const said = async () => {
    for (const side of ['left', 'right']) assert.match(await seat(page, side).locator('.place').textContent(), new RegExp(`/ws/crawl/${id}/`));
  };
  await said();
  assert.match(await page.locator('#check').textContent(), new RegExp(`^Crawl id ${id} on both sides\\. Left: \\d+ events of acme\\. Right: \\d+ events of globex\\. None crossed over\\.$`));
  await page.reload();
  for (const side of ['left', 'right']) await status(page, side, 'done').waitFor();
  await said();
});

test('an address that is not there has a page with a way on', async (t) => {
  const page = await visit(t, browser, `${url}/consumers/nothing.html`);
  await page.locator('h1', { hasText: 'There is no such page.' }).waitFor();
  assert.equal((await page.request.get(`${url}/consumers/nothing.html`)).status(), 404);
  await accessible(page);
  await page.goto(`${url}/consumers/`);
  await page.waitForURL(`${url}/consumers/connection.html`);
});
