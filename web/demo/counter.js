// The counter of isolation violations: the gateway's own, and what this page has seen itself.

import { ask } from './ask.js';
import { el } from './dom.js';

const EVERY_MS = 2_000;

const counter = document.getElementById('counter');
const figure = el('p.figure', '?');
const detail = el('p.detail', 'asking the gateway…');
figure.id = 'violations';
detail.id = 'counter-detail';
counter.replaceChildren(figure, el('p.caption', 'isolation violations'), detail);

let status = null; // what the gateway last said; null while it does not answer
let leaks = 0;

/** Tells how many events of another organization this page has received. */
export function countLeaks(n) {
  leaks = n;
  show();
}

export async function refreshStatus() {
  try {
    status = await ask('/demo/status');
  } catch {
    status = null;
  }
  show();
}

export async function watchStatus() {
  for (;;) {
    if (!document.hidden) await refreshStatus();
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

function show() {
  const known = status !== null;
  const total = (status?.violations ?? 0) + leaks;
  counter.dataset.state = total > 0 ? 'broken' : known ? 'held' : 'unknown';
  figure.textContent = known || total > 0 ? String(total) : '?';
  detail.textContent = known
    ? `counted by the gateway, and by this page\n${status.connections} open ${status.connections === 1 ? 'socket' : 'sockets'}`
    : 'the gateway does not answer';
}
