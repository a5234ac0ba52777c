// What tests of pages share.

import assert from 'node:assert/strict';
import axe from 'axe-core';

/** Opens an address in a browser context of its own: own cookies, own sockets. Errors on the page fail the test. */
export async function visit(t, browser, address, options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  const faults = [];
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('console', (message) => {
    // A refused handshake is reported by the browser itself; everything else is a fault of the page.
    const expected = message.text().includes('WebSocket') || message.text().includes('the server responded with a status of');
    if (message.type() === 'error' && !expected) faults.push(message.text());
  });
  t.after(() => assert.deepEqual(faults, [], 'errors on the page'));
  await page.goto(address);
  return page;
}

/** Asserts that a page, or the part of it that a selector finds, meets WCAG AA, contrast included. */
export async function accessible(page, within) {
  await page.evaluate(axe.source);
  const { violations, passes } = await page.evaluate((part) => globalThis.axe.run(part ?? document,
    { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }), within);
  assert.deepEqual(violations.map(({ id, nodes }) => [id, ...nodes.map(({ target, failureSummary }) => `${target}: ${failureSummary}`)]), []);
  assert.ok(passes.some(({ id }) => id === 'color-contrast'), 'contrast was really measured');
}

/** The panel of a seat. */
export const seat = (page, name) => page.locator(`.seat[data-seat="${name}"]`);
