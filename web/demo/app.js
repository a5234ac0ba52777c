// The first page: two panels, the list of deliveries, the break-in, and the counter of violations.

import { ask } from './ask.js';
import { setUpBreakIn } from './breakin.js';
import { countLeaks, refreshStatus, watchStatus } from './counter.js';
import { setUpCrowd } from './crowd.js';
import { setUpMenu } from './menu.js';
import { once } from './once.js';
import { setUpOutage } from './outage.js';
import { Panel } from './panel.js';
import { chosenPerson, SEATS } from './seats.js';
import { Tracker } from './tracker.js';

/** When something moves by itself, if the visitor has not done anything. */
const GREET_MS = 2_000;

const tracker = new Tracker(() => countLeaks(tracker.leaks));

async function start() {
  for (const span of document.querySelectorAll('.origin')) span.textContent = location.origin;
  let town;
  try {
    town = await ask('/demo/people');
  } catch (refusal) {
    const notice = document.getElementById('notice');
    notice.textContent = `The demo could not start: ${refusal.message}. Reload to try again.`;
    notice.hidden = false;
    return;
  }
  const panels = SEATS.map(({ name, title }) => new Panel(name, title, { town, tracker, connected: refreshStatus }));
  tracker.watch(panels);
  document.getElementById('seats').replaceChildren(...panels.map(({ root }) => root));
  await Promise.all(panels.map((panel, i) => panel.sit(chosenPerson(SEATS[i]))));
  setUpBreakIn(tracker);
  setUpOutage(panels, town.outages);
  setUpCrowd();
  if (!location.search) greet(panels); // a first visit: a page that names its people has work to do
  const reset = document.getElementById('reset');
  reset.addEventListener('click', () => once(reset, async () => {
    await ask('/demo/reset', {});
    await Promise.all(panels.map((panel) => panel.sit(panel.person.user)));
  }));
}

/** After a while lets both people publish once, unless the visitor has done something before. */
function greet(panels) {
  const began = new AbortController();
  const timer = setTimeout(() => {
    began.abort();
    for (const panel of panels) panel.greet();
  }, GREET_MS);
  for (const type of ['pointerdown', 'keydown']) addEventListener(type, () => { clearTimeout(timer); began.abort(); }, { signal: began.signal, capture: true });
}

setUpMenu();
watchStatus();
start();
