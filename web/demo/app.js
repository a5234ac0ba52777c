// The page: two panels, the list of deliveries, the break-in, and the counter of violations.

import { setUpBreakIn } from './breakin.js';
import { Panel } from './panel.js';
import { ask } from './seat.js';
import { Tracker } from './tracker.js';

const SEATS = [
  { name: 'left', title: 'First person', user: 'ada' },
  { name: 'right', title: 'Second person', user: 'grace' },
];

const STATUS_EVERY_MS = 2_000;

const counter = document.getElementById('counter');
const figure = document.getElementById('violations');
const detail = document.getElementById('counter-detail');

const tracker = new Tracker(() => showCounter());
let status = null; // what the gateway last said; null while it does not answer

function showCounter() {
  const known = status !== null;
  const total = (status?.violations ?? 0) + tracker.leaks;
  counter.dataset.state = total > 0 ? 'broken' : known ? 'held' : 'unknown';
  figure.textContent = known || total > 0 ? String(total) : '?';
  detail.textContent = known
    ? `counted by the gateway, and by this page\n${status.connections} open ${status.connections === 1 ? 'socket' : 'sockets'}`
    : 'the gateway does not answer';
}

async function refreshStatus() {
  try {
    status = await ask('/demo/status');
  } catch {
    status = null;
  }
  showCounter();
}

async function watchStatus() {
  for (;;) {
    if (!document.hidden) await refreshStatus();
    await new Promise((resolve) => setTimeout(resolve, STATUS_EVERY_MS));
  }
}

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
  const chosen = new URLSearchParams(location.search);
  await Promise.all(panels.map((panel, i) => {
    const { name, user } = SEATS[i];
    return panel.sit(chosen.get(name) ?? sessionStorage.getItem(`seat.${name}`) ?? user);
  }));
  setUpBreakIn(tracker);
}

watchStatus();
start();
