// The tracker follows each event: who published it, who received it, who did not and why. It draws
// the list of deliveries, and it is a second, independent check of isolation: an event that shows up
// at a seat of another organization is a leak, whatever the gateway's own counter says.

import { announce, el, milliseconds } from './dom.js';

const MAX_ENTRIES = 40;

/** How long a listener may take before the list says that it did not receive the event. */
const PATIENCE_MS = 2_000;

/** Clocks of two machines differ; a travelling time beyond this says more about them than about us. */
const PLAUSIBLE_MS = 60_000;

export class Tracker {
  leaks = 0;
  #entries = new Map(); // by the event's id, or its whole text if it has none
  #panels = [];
  #list = document.getElementById('log');
  #onLeak;

  constructor(onLeak) {
    this.#onLeak = onLeak;
  }

  watch(panels) {
    this.#panels = panels;
  }

  /** Who sits where right now, and what they listen to. */
  snapshot() {
    return this.#panels.map(({ seat, town }) => ({
      name: seat.name,
      person: seat.person,
      org: seat.org,
      orgName: town.organizations.find((o) => o.id === (seat.org || seat.person?.organization_id))?.name ?? '',
      live: seat.live,
      groups: new Set(seat.groups),
    }));
  }

  /** The demo has published an event that a panel asked for at the time started. What becomes of it shows in here, too. */
  published(answer, text, started, seats, here) {
    const entry = this.#entry(answer.id, seats);
    for (const other of this.#entries.values()) if (other.here === here) delete other.here; // the latest alone
    entry.here = here;
    Object.assign(entry, { org: answer.organization_id, group: answer.group, from: answer.from, text, started });
    this.#draw(entry);
    for (const seat of seats) {
      if (seat.live && seat.org !== entry.org) announce(`Never sent to ${seat.person.name}: other organization.`);
    }
  }

  /** A seat has received an event. label is called now and whenever more is known. */
  received(seat, event, at, source, label) {
    const entry = this.#entry(event.id ?? JSON.stringify(event), this.snapshot());
    entry.org ??= String(event.organization_id ?? '');
    entry.from ??= event.from ?? 'back end';
    entry.text ??= typeof event.text === 'string' ? event.text : event.type;
    entry.sentAt ??= event.sent_at;
    entry.group ??= source.group;
    const leak = String(event.organization_id ?? '') !== seat.org;
    if (leak) {
      this.leaks++;
      this.#onLeak();
    }
    entry.arrivals.set(seat.name, { at, wall: Date.now(), leak, label, user: seat.person.name });
    this.#draw(entry);
    if (leak) announce(`Leak: ${seat.person.name} received an event of another organization.`);
    else announce(`${seat.person.name} received: ${entry.text}.`);
  }

  #entry(key, seats) {
    let entry = this.#entries.get(key);
    if (entry) return entry;
    entry = { seats, arrivals: new Map(), row: el('li'), time: new Date() };
    this.#entries.set(key, entry);
    this.#list.prepend(entry.row);
    this.#list.hidden = false;
    document.getElementById('log-empty').hidden = true;
    if (this.#entries.size > MAX_ENTRIES) {
      const [oldest, { row }] = this.#entries.entries().next().value;
      row.remove();
      this.#entries.delete(oldest);
    }
    setTimeout(() => {
      entry.late = true;
      this.#draw(entry);
    }, PATIENCE_MS);
    return entry;
  }

  // From the press of the button to the arrival if the event began here: one clock, so exact.
  // Otherwise from the publisher's clock, if it told the time and the two agree.
  #travelled(entry, arrival) {
    if (entry.started !== undefined) return arrival.at - entry.started;
    const ms = arrival.wall - entry.sentAt;
    return ms >= 0 && ms < PLAUSIBLE_MS ? ms : null;
  }

  #draw(entry) {
    const target = el('span.to', ...(entry.group === undefined ? ['to a group'] : ['to ', el('code', entry.group)]));
    target.dataset.org = entry.org ?? '';
    entry.row.replaceChildren(
      el('span.when', entry.time.toLocaleTimeString('en-GB')),
      el('p.what', el('b', entry.from ?? '…'), ' published ', target, ' of ', el('b', entry.org ?? '…'),
        el('span.quote', entry.text ?? '')),
      el('ul.fates', ...entry.seats.map((seat) => this.#fate(entry, seat))),
    );
    entry.here?.replaceChildren(el('ul.fates', ...entry.seats.map((seat) => this.#fate(entry, seat))));
    for (const arrival of entry.arrivals.values()) arrival.label(entry, this.#travelled(entry, arrival));
  }

  // The fate of the event at one seat.
  #fate(entry, seat) {
    const arrival = entry.arrivals.get(seat.name);
    const name = el('b', arrival?.user ?? seat.person?.name ?? seat.name);
    const say = (kind, sign, text) => {
      const item = el(`li.${kind}`, el('span.sign', sign), name, el('span.why', text));
      item.dataset.seat = seat.name;
      return item;
    };
    if (arrival?.leak) return say('leak', '✗', 'received an event of another organization!');
    if (arrival) {
      const ms = this.#travelled(entry, arrival);
      return say('got', '✓', ms === null ? 'received' : `received in ${milliseconds(ms)}`);
    }
    if (!seat.live) return say('not', '—', 'not connected');
    if (seat.org !== entry.org) return say('never', '—', 'other organization: never sent');
    if (entry.group !== undefined && !seat.groups.has(entry.group)) return say('not', '—', `does not listen to ${entry.group}`);
    if (!entry.late) return say('wait', '…', 'on its way');
    return say('not', '—', 'not received');
  }
}
