// A page of a consumer: two people look at the same id, each in their own organization. What is
// common to all such pages is here; what one of them shows of its frames is its view.

import { ask } from '../ask.js';
import { countLeaks, refreshStatus, watchStatus } from '../counter.js';
import { announce, el } from '../dom.js';
import { Here } from '../here.js';
import { setUpMenu } from '../menu.js';
import { once } from '../once.js';
import { Seat } from '../seat.js';
import { chosenPerson, rememberPerson, SeatFrame, SEATS } from '../seats.js';

const MAX_FRAMES = 60;

/** Frames that the gateway itself says, on every consumer. */
const CONTROL = new Set(['welcome', 'error', 'gap']);

/**
 * Opens the page. subject is what both people look at: {label, id, valid, hint}, and next() if people
 * choose the id themselves; null if there is no such thing. path(id) is where the consumer is,
 * group(id) where its events come from. view(panel) makes what is shown in a panel: reset() before the
 * first state, frame(frame) for each frame, and start(alone), which both is the label for, on both sides.
 * shared: whether colleagues look at the same thing, so that the panel shows who is here.
 */
export async function openPage({ subject, path, group, view, both, shared = true }) {
  setUpMenu();
  watchStatus();
  let town;
  try {
    town = await ask('/demo/people');
  } catch (refusal) {
    const notice = document.getElementById('notice');
    notice.textContent = `The demo could not start: ${refusal.message}. Reload to try again.`;
    notice.hidden = false;
    return;
  }
  const check = new Check(subject?.label);
  const input = el('input.id');
  /** Lets one panel look at something, or all of them. */
  const show = (id, one) => {
    input.value = id;
    if (subject) history.replaceState(null, '', `?id=${encodeURIComponent(id)}`);
    for (const panel of one ? [one] : panels) panel.look(id);
    check.show();
  };
  const panels = SEATS.map((seat) => new Panel(seat, { town, path, group, view, check, show, shared: shared && subject !== null }));
  check.watch(panels);
  const people = SEATS.map(chosenPerson);
  const given = new URLSearchParams(location.search).get('id') ?? '';
  for (const panel of panels) panel.look(subject ? (subject.valid.test(given) ? given : subject.id) : '');
  input.value = panels[0].id;
  document.getElementById('subject').append(...(subject ? [subjectForm(subject, input, panels, show, both)] : []), check.root);
  document.getElementById('seats').replaceChildren(...panels.map(({ root }) => root));
  await Promise.all(panels.map((panel, i) => panel.sit(people[i])));
}

/** The form for the id that both look at, and the button that lets both start at once. */
function subjectForm({ label, next, valid, hint }, input, panels, show, both) {
  input.pattern = valid.source.replace(/^\^|\$$/g, '');
  input.required = true;
  input.autocomplete = 'off';
  input.spellcheck = false;
  input.title = hint;
  const open = el('button.quiet', 'Open');
  open.type = 'submit';
  const form = el('form.subject', el('label', el('span.label', `${label}, to open on both sides`), input), open);
  form.addEventListener('submit', (submit) => {
    submit.preventDefault();
    show(input.value);
  });
  if (next) {
    const another = el('button.quiet', 'Another');
    another.type = 'button';
    another.addEventListener('click', () => show(next(input.value)));
    form.append(another);
  }
  const start = el('button.primary', both);
  start.type = 'button';
  start.id = 'both';
  start.addEventListener('click', () => once(start, async () => {
    // The same number on both sides: two things all the same.
    const [first, ...others] = panels;
    const id = await first.view.start(true);
    for (const panel of others) await panel.view.start(true, id);
  }));
  form.append(start);
  return form;
}

/** What the check says before it has anything to count. */
const NOTHING = 'Events are counted here as they arrive, by organization.';

/** Counts whose events came to whom: an independent check of what the gateway promises. */
class Check {
  root = el('p.verdict');
  #counts = new Map(); // by seat: {org, own, foreign}
  #panels = [];

  /** label: what both people look at, if they look at something. */
  constructor(label) {
    this.label = label;
    this.root.id = 'check';
    this.root.dataset.kind = 'idle';
    this.root.textContent = NOTHING;
  }

  watch(panels) {
    this.#panels = panels;
  }

  /** The person at the seat changed. */
  clear(name) {
    const count = this.#counts.get(name);
    this.#counts.set(name, { org: '', own: 0, foreign: count?.foreign ?? 0 });
    this.show();
  }

  frame(seat, frame) {
    if (CONTROL.has(frame.type) || frame.organization_id === undefined) return;
    const count = this.#counts.get(seat.name);
    count.org = seat.org;
    if (String(frame.organization_id) === seat.org) {
      count.own++;
    } else {
      count.foreign++;
      announce(`Leak: ${seat.person.name} received an event of another organization.`);
    }
    this.show();
  }

  show() {
    const counts = this.#panels.map(({ seat }) => this.#counts.get(seat.name) ?? { org: '', own: 0, foreign: 0 });
    const foreign = counts.reduce((sum, count) => sum + count.foreign, 0);
    const own = counts.reduce((sum, count) => sum + count.own, 0);
    countLeaks(foreign);
    this.root.dataset.kind = foreign > 0 ? 'broken' : own > 0 ? 'held' : 'idle';
    const [left, right] = this.#panels.map(({ id }) => id);
    const both = this.label && left === right ? `${this.label} ${left} on both sides. ` : '';
    this.root.textContent = own + foreign === 0 ? NOTHING
      : `${both}${counts.map(({ org, own: n }, i) => `${i === 0 ? 'Left' : 'Right'}: ${n} ${n === 1 ? 'event' : 'events'}${org ? ` of ${org}` : ''}`).join('. ')}. ${
        foreign === 0 ? 'None crossed over.' : `${foreign} CROSSED OVER.`}`;
  }
}

/** One person, and what the consumer shows them. */
class Panel {
  id = '';
  #starting = false;
  #path;
  #group;
  #check;
  #turnTo;
  #people;
  #here = null; // who else looks at the same thing
  #place = el('p.place');
  #problem = el('p.problem');
  #status = el('span.status');
  #frames = el('ol');
  #count = el('span.count', '0');

  constructor({ name, title }, { town, path, group, view, check, show, shared }) {
    this.#turnTo = show;
    this.#path = path;
    this.#group = group;
    this.#check = check;
    this.#people = town.people;
    this.frame = new SeatFrame(name, title, town, { sit: (user) => this.sit(user), connect: () => this.#connect() });
    this.root = this.frame.root;
    this.#problem.setAttribute('role', 'alert');
    this.root.querySelector('.state').append(this.#status);
    const body = el('div.view', document.getElementById('view').content.cloneNode(true));
    this.#frames.tabIndex = 0;
    this.#frames.setAttribute('aria-label', 'Frames, newest first');
    const wire = el('details.wire', el('summary', 'Frames as received ', this.#count), this.#frames);
    if (shared) this.#here = new Here(town.people);
    this.root.append(this.#place, ...(shared ? [this.#here.root] : []), this.#problem, body, wire); // the problem where people look, however long the body
    this.seat = new Seat(name, {
      change: () => this.#show(),
      frame: (frame, at) => this.#receive(frame, at),
    });
    this.view = view(this);
    this.#reset();
  }

  /** The name of a user. */
  nameOf(user) {
    return this.#people.find((person) => person.user === user)?.name ?? user;
  }

  part(selector) {
    return this.root.querySelector(selector);
  }

  /** Calls act when the form, found by its selector, is submitted. */
  onSubmit(selector, act) {
    this.part(selector).addEventListener('submit', (submit) => {
      submit.preventDefault();
      act(submit);
    });
  }

  onClick(selector, act) {
    this.part(selector).addEventListener('click', act);
  }

  sit(user) {
    const person = this.frame.choose(user);
    rememberPerson(this.seat.name, person.user);
    this.#check.clear(this.seat.name);
    this.#reset();
    return this.seat.sit(person);
  }

  /** Goes on to the thing called id. */
  look(id) {
    this.id = id;
    this.#reset();
    this.seat.visit(this.#path(id));
  }

  /** Sends a frame, and reports whether there was a connection to send it on; else it says so. */
  send(frame) {
    const sent = this.seat.send(frame);
    this.problem(sent ? '' : 'Not sent: no connection. Your text is kept.');
    return sent;
  }

  /** Starts a job in the person's organization; returns the answer, or null if it was refused. */
  async start(kind, payload) {
    if (this.#starting) return null; // a double click
    this.#starting = true;
    this.problem('');
    try {
      return await ask(`/demo/jobs/${kind}`, { seat: this.seat.name, ...payload });
    } catch ({ message, code }) {
      this.problem(`Not started: ${message} (${code}).`);
      return null;
    } finally {
      this.#starting = false;
    }
  }

  /**
   * Goes on to what was started. The other person goes along, to the same id in their own organization,
   * unless both have started something.
   */
  follow(id, alone) {
    this.#turnTo(id, alone ? this : null);
  }

  problem(text) {
    this.#problem.textContent = text;
  }

  /** Shows how the job is doing, and says so when it comes to its end. */
  status(word) {
    const kind = kindOf(word);
    const ended = (kind === 'done' || kind === 'failed') && this.#status.dataset.kind !== kind && this.#status.dataset.kind !== undefined;
    this.#status.textContent = wordOf(word);
    this.#status.dataset.kind = kind;
    if (ended) announce(`${this.seat.person?.name}: ${wordOf(word)}.`);
  }

  #connect() {
    this.#reset();
    this.seat.connect();
  }

  #reset() {
    this.problem('');
    this.#frames.replaceChildren();
    this.#count.textContent = '0';
    this.#status.textContent = '';
    delete this.#status.dataset.kind;
    this.view.reset();
  }

  #show() {
    if (this.frame.show(this.seat)) refreshStatus();
    const org = this.seat.org || this.seat.person?.organization_id;
    const group = this.#group(this.id);
    this.#here?.follow(this.seat, `room.${group}`); // the room of those who look at it; the group's events are the consumer's
    this.#place.replaceChildren(el('code', this.#path(this.id)),
      ...(group ? [' shows ', el('code.own', `${org ?? '…'} / ${group}`)] : []));
  }

  #receive(frame, at) {
    this.#frames.prepend(el('li', el('span.time', `${(at / 1000).toFixed(2)} s`), el('code', JSON.stringify(frame))));
    while (this.#frames.children.length > MAX_FRAMES) this.#frames.lastElementChild.remove();
    this.#count.textContent = String(Number(this.#count.textContent) + 1);
    this.#check.frame(this.seat, frame);
    switch (frame.type) {
      case 'welcome': // a new connection: the first state follows
        this.view.reset();
        break;
      case 'error':
        this.problem(`${frame.message} (${frame.code})`);
        break;
      case 'gap':
        this.problem('Some events may be missing here.');
        break;
    }
    this.view.frame(frame);
  }
}

const KINDS = {
  'needs you': 'asks', waiting_for_human_input: 'asks',
  pending: 'idle', queued: 'idle', connected: 'idle',
  completed: 'done', complete: 'done', done: 'done', finished: 'done',
  failed: 'failed', error: 'failed', cancelled: 'failed',
};

/** How a status is shown: one word for one thing, whichever consumer says it. */
export function wordOf(status) {
  const word = String(status ?? '').toLowerCase().replaceAll('_', ' ');
  return { complete: 'completed', done: 'completed', finished: 'completed', error: 'failed', pending: 'waiting', queued: 'waiting', 'waiting for human input': 'needs you' }[word] ?? word;
}

/** What kind of status a word is, no matter what wrote it and in what case. */
export function kindOf(word) {
  return KINDS[String(word).toLowerCase()] ?? 'running';
}
