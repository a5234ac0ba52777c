// The crowd: the demo itself opens the sockets and counts, and this page shows its figures. A page that
// opens while a crowd is there watches the same one.

import { ask } from './ask.js';
import { refreshStatus } from './counter.js';
import { el, milliseconds } from './dom.js';
import { once } from './once.js';

const EVERY_MS = 250;

const FINAL = new Set(['idle', 'done', 'failed', 'unwatched']);

const number = (n) => n.toLocaleString('en-US');
const part = (name) => document.getElementById(`crowd-${name}`);

/** How large a crowd is: as the address says, or as large as the button promises. */
function wantedSize() {
  const given = new URLSearchParams(location.search);
  const size = (name, usual) => Number(given.get(name) ?? usual);
  return { people: size('people', 500), organizations: size('organizations', 50), seconds: size('seconds', 10) };
}

function label({ people, organizations }) {
  return `${number(people)} people of ${number(organizations)} organizations`;
}

/** How far the run is, from 0 to 1: connecting is the first tenth. */
function progress({ state, connected, people, elapsed_ms: elapsed, seconds }) {
  switch (state) {
    case 'gathering': return 0.1 * connected / people;
    case 'publishing': return 0.1 + 0.88 * Math.min(1, elapsed / (seconds * 1000));
    case 'settling': return 0.98;
    default: return 1;
  }
}

function kindOf({ crossed, repeated, lost, ended }) {
  if (crossed > 0 || repeated > 0) return 'broken';
  return lost > 0 || ended > 0 ? 'unclear' : 'held';
}

function summary(report) {
  const { crossed, repeated, lost, gaps, ended, deliveries, published, elapsed_ms: elapsed, p50_ms: p50, p99_ms: p99 } = report;
  const trouble = [
    gaps > 0 ? `The gateway announced ${number(gaps)} ${gaps === 1 ? 'gap' : 'gaps'}.` : '',
    ended > 0 ? `${number(ended)} ${ended === 1 ? 'socket' : 'sockets'} ended early.` : '',
    kindOf(report) === 'broken' ? 'That is a bug in the gateway: please report it.' : '',
  ];
  return [
    `${number(crossed)} of ${number(deliveries)} deliveries crossed, ${number(repeated)} came twice, ${number(lost)} got lost.`,
    `${label(report)} received ${number(published)} events in ${(elapsed / 1000).toFixed(1)} s, from publish to person in ${milliseconds(p50)} (p50) and ${milliseconds(p99)} (p99).`,
    ...trouble,
  ].filter(Boolean).join(' ');
}

/** What is said aloud: it changes a few times in a run, not with every figure. */
function sentence(report) {
  switch (report.state) {
    case 'gathering': return `${label(report)} are signing in and connecting…`;
    case 'publishing': return 'Everyone is connected. Publishing to all organizations…';
    case 'settling': return 'Waiting for the last deliveries…';
    case 'failed': return `Not run: ${report.problem}.`;
    case 'unwatched': return 'Stopped early, because no page was watching.';
    case 'done': return summary(report);
    default: return '';
  }
}

function show(report) {
  const { state, connected, people, deliveries, crossed, published, p50_ms: p50, p99_ms: p99 } = report;
  part('live').hidden = state === 'idle' || state === 'failed';
  const kind = crossed > 0 ? 'broken' : deliveries > 0 ? 'held' : 'idle';
  const headline = part('headline');
  headline.textContent = `${number(crossed)} of ${number(deliveries)} deliveries crossed`;
  headline.dataset.kind = kind;
  const share = progress(report);
  part('progress').value = share;
  part('percent').textContent = `${Math.floor(share * 100)} %`;
  part('tiles').replaceChildren(...[
    ['connected', `${number(connected)} / ${number(people)}`],
    ['events', number(published)],
    ['deliveries', number(deliveries)],
    ['crossed', number(crossed), kind],
    ['p50 latency', p50 > 0 ? milliseconds(p50) : '–'],
    ['p99 latency', p99 > 0 ? milliseconds(p99) : '–'],
  ].map(([name, value, mark = 'idle']) => {
    const tile = el('div', el('dt', name), el('dd', value));
    tile.dataset.kind = mark;
    return tile;
  }));
  say(sentence(report), state === 'done' ? kindOf(report) : FINAL.has(state) ? 'unclear' : 'running');
}

function say(text, kind) {
  const verdict = part('verdict');
  if (verdict.textContent !== text) verdict.textContent = text; // else it would be said again
  verdict.dataset.kind = kind;
}

/** Shows the run until it is over. The demo ends a run that nobody follows. */
async function follow() {
  for (let state = ''; !FINAL.has(state);) {
    const report = await ask('/demo/crowd');
    ({ state } = report);
    show(report);
    if (!FINAL.has(state)) await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
  refreshStatus();
}

export async function setUpCrowd() {
  const button = part('start');
  const size = wantedSize();
  button.textContent = label(size);
  const run = (begin) => once(button, async () => {
    try {
      await begin();
      await follow();
    } catch (refusal) {
      say(`${refusal.status === 0 ? 'Stopped' : 'Not run'}: ${refusal.message}.`, 'unclear');
    }
  });
  button.removeAttribute('aria-disabled');
  button.addEventListener('click', () => run(async () => {
    try {
      await ask('/demo/crowd', size);
    } catch (refusal) {
      if (refusal.code !== 'crowd_running') throw refusal; // else another page has started it
    }
  }));
  run(() => {}); // what is going on, or the figures of the latest run
}
