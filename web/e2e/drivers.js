// Chromium and Firefox behind one face, for tests that both must pass: playwright-core has no driver for the
// Firefox of a distribution, and puppeteer-core speaks to it by WebDriver BiDi.

import puppeteer from 'puppeteer-core';
import { PATIENCE_MS } from './gateway.js';

/** Opens a browser by name. open() opens a page in a context of its own, or next to another page: with its cookies. */
export async function start(workshop, name) {
  if (name === 'chromium') {
    const browser = await workshop.browser();
    return { name, open: async (beside) => watched(await (beside?.context() ?? await browser.newContext()).newPage()) };
  }
  const browser = await puppeteer.launch({ browser: 'firefox', executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr', timeout: PATIENCE_MS, protocolTimeout: PATIENCE_MS });
  workshop.onClose(() => browser.close());
  return { name, open: async (beside) => watched(await (beside?.browserContext() ?? await browser.createBrowserContext()).newPage()) };
}

function watched(page) {
  page.setDefaultTimeout(PATIENCE_MS);
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  return page;
}

/** Waits until a function of the page returns something, and returns it. */
export async function until(page, look, given) {
  for (const end = Date.now() + PATIENCE_MS; ;) {
    const found = await page.evaluate(look, given).catch((error) => {
      if (!error.message.includes('context was destroyed')) throw error; // the page is being loaded again
    });
    if (found) return found;
    if (Date.now() > end) throw new Error(`never: ${look} with ${JSON.stringify(given)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
