// The outage: the demo takes Redis away and goes on publishing as both people. This page follows every
// event to both sockets, and checks that each arrives where it belongs, once and in order.

import { ask } from './ask.js';
import { el } from './dom.js';
import { once } from './once.js';

const EVERY_MS = 150;

/** How long events may take after Redis has them: a busy machine takes its time. */
const ARRIVAL_MS = 20_000;

/** The group to which the demo publishes meanwhile. */
const GROUP = 'all';

const JOIN_MS = 5_000;

const part = (name) => document.getElementById(`outage-${name}`);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/** What one socket sees of an outage. */
export class Watch {
  stayed = true; // the socket has been open all the time
  gaps = new Set(); // groups of which the gateway said that events may be missing
  arrivals = []; // {event, at}, in their order

  over = false; // the outage is over, and whatever becomes of the socket is no part of it

  /** changed: something came. */
  constructor(panel, changed) {
    this.seat = panel.seat;
    this.name = panel.person.name;
    this.org = this.seat.org;
    this.orgName = panel.town.organizations.find(({ id }) => id === this.org)?.name ?? this.org;
    this.stop = this.seat.watch({
      frame: (frame, at, source) => {
        if (source) this.arrivals.push({ event: frame, at });
        else if (frame.type === 'gap') this.gaps.add(frame.group);
        else return;
        changed();
      },
      change: () => {
        if (this.seat.live) return;
        if (this.over) this.stop();
        else this.stayed = false;
      },
    });
  }

  /** Events of the outage that belong here, as the demo lists them. */
  expected(events) {
    return events.filter((event) => event.organization_id === this.org);
  }

  /** Arrivals of events of the outage, wherever they belong. */
  came(events) {
    const ids = new Set(events.map(({ id }) => id));
    return this.arrivals.filter(({ event }) => ids.has(event.id));
  }

  /** When an event arrived, undefined if it has not. */
  at(id) {
    return this.arrivals.find(({ event }) => event.id === id)?.at;
  }
}

/** Counts over all sockets what arrived, what did not, and what should not have. */
export function count(watches, events) {
  const sum = { expected: 0, arrived: 0, twice: 0, crossed: 0, ordered: true };
  for (const watch of watches) {
    const own = watch.expected(events).map(({ id }) => id);
    const came = watch.came(events);
    const first = [...new Set(came.map(({ event }) => event.id))].filter((id) => own.includes(id));
    sum.expected += own.length;
    sum.arrived += first.length;
    sum.crossed += came.filter(({ event }) => event.organization_id !== watch.org || !own.includes(event.id)).length;
    sum.twice += came.length - new Set(came.map(({ event }) => event.id)).size;
    sum.ordered &&= first.every((id, i) => i === 0 || own.indexOf(id) > own.indexOf(first[i - 1]));
  }
  return sum;
}

const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;

function verdict(report, watches) {
  const { expected, arrived, twice, crossed, ordered } = count(watches, report.events);
  const stayed = watches.filter((watch) => watch.stayed).length;
  const kept = report.events.filter((event) => event.accepted_ms === 0).length;
  const broken = twice > 0 || crossed > 0 || !ordered;
  const kind = broken ? 'broken' : arrived === expected && stayed === watches.length && kept === 0 ? 'held' : 'unclear';
  return [kind, [
    `${seconds(report.away_ms)} without Redis. ${plural(stayed, 'socket', 'sockets')} stayed open, ${arrived} of ${expected} events arrived, ${twice} twice, ${crossed} crossed.`,
    arrived > 1 ? (ordered ? 'All came in the order in which they were written.' : 'Some came out of order.') : '',
    kept > 0 ? `Redis did not take ${plural(kept, 'event', 'events')}.` : '',
    broken ? 'That is a bug in the gateway: please report it.' : '',
  ].filter(Boolean).join(' ')];
}

/** What became of one event at one socket. */
function fate(event, watch, pressed) {
  const at = watch.at(event.id);
  if (at !== undefined) return ['held', `arrived at ${seconds(at - pressed)}`];
  if (event.accepted_ms > 0) return ['running', `in Redis at ${seconds(event.accepted_ms)}`];
  return ['running', event.kept ? 'kept: Redis is away' : 'on its way'];
}

function told(watch) {
  if (!watch.stayed) return 'The socket ended.';
  if (watch.gaps.size === 0) return 'Socket open. Told nothing so far.';
  return `Socket open. Told: gap in ${[...watch.gaps].join(', ')}. What was published there without a history may be missing.`;
}

function show(report, watches, pressed) {
  const { state, away_ms: away, seconds: length } = report;
  part('live').hidden = false;
  const left = Math.max(0, length * 1000 - away);
  const headline = part('headline');
  const { expected, arrived } = count(watches, report.events);
  headline.textContent = state === 'away' ? `Redis is away for another ${seconds(left)}` : `Redis is back: ${arrived} of ${expected} events arrived`;
  headline.dataset.kind = state === 'away' ? 'running' : arrived === expected ? 'held' : 'running';
  part('progress').value = Math.min(1, away / (length * 1000));
  part('left').textContent = seconds(away);
  part('sides').replaceChildren(...watches.map((watch) => {
    const side = el('div.side', el('h3', `${watch.name} of ${watch.orgName}`), el('p.told', told(watch)),
      el('ol', ...watch.expected(report.events).map((event) => {
        const [kind, text] = fate(event, watch, pressed);
        const row = el('li', el('span', `written at ${seconds(event.at_ms)}`), el('span.fate', text));
        row.dataset.kind = kind;
        return row;
      })));
    side.dataset.org = watch.org;
    return side;
  }));
}

function say(kind, text) {
  const verdict = part('verdict');
  verdict.dataset.kind = kind;
  if (verdict.textContent !== text) verdict.textContent = text; // else it would be said again
}

/** Waits until a seat listens to the group, and says what is missing; '' if nothing is. */
async function absent(panel) {
  const { seat, person } = panel;
  if (!seat.live) return `${person.name} is not connected.`;
  if (!seat.groups.has(GROUP)) seat.listen(GROUP, true);
  for (let waited = 0; !seat.groups.has(GROUP); waited += 50) {
    if (waited > JOIN_MS || !seat.live) return `${person.name} cannot listen to ${GROUP}.`;
    await pause(50);
  }
  return '';
}

let watches = []; // of the latest outage: what comes late counts, too

async function pull(panels, length) {
  for (const panel of panels) {
    const missing = await absent(panel);
    if (missing) {
      say('unclear', `Not run: ${missing}`);
      return;
    }
  }
  for (const watch of watches) watch.stop();
  let report = null;
  const pressed = performance.now();
  const seen = watches = panels.map((panel) => new Watch(panel, () => {
    if (report === null) return;
    show(report, seen, pressed);
    if (seen[0].over) say(...verdict(report, seen));
  }));
  try {
    report = await ask('/demo/outage', { seats: seen.map(({ seat }) => seat.name), seconds: length });
    say('running', 'Redis is away. Publish something above: it is not lost silently, but refused, and your text is kept.');
    await follow(report, (newer) => {
      report = newer;
      show(report, seen, pressed);
      const { arrived, expected } = count(seen, report.events);
      return arrived === expected;
    });
    for (const watch of seen) watch.over = true;
    say(...verdict(report, seen));
  } catch (refusal) {
    say('unclear', `Not run: ${refusal.message}.`);
  }
}

/** Shows reports until the outage is over and everything has arrived, as show says, or nothing more will. */
async function follow(report, show) {
  for (let until; ;) {
    const complete = show(report);
    if (report.state === 'done' || report.state === 'stuck') {
      until ??= performance.now() + ARRIVAL_MS;
      if (complete || performance.now() > until) return;
    }
    await pause(EVERY_MS);
    if (until === undefined) report = await ask('/demo/outage');
  }
}

/** possible: whether the demo has a Redis of its own, which it may take away. */
export function setUpOutage(panels, possible) {
  const button = part('start');
  const length = Number(new URLSearchParams(location.search).get('away') ?? 5);
  button.textContent = `Pull the plug for ${length} s`;
  if (!possible) {
    say('unclear', 'Not here: this demo uses a Redis of yours. Start it without --redis to try this.');
    return;
  }
  button.removeAttribute('aria-disabled');
  button.addEventListener('click', () => once(button, () => pull(panels, length)));
}
