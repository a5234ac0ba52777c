// A panel shows one seat and lets its person act.

import { el, milliseconds } from './dom.js';
import { Here } from './here.js';
import { Listener, SHOWN } from './listener.js';
import { rememberPerson, SeatFrame } from './seats.js';

const MAX_EVENTS = 30;

export class Panel {
  #template = document.getElementById('seat-template').content;
  #messages = 0;

  /**
   * town: organizations and people. tracker: follows every event of the page. connected: is told
   * when the seat's socket opened or closed.
   */
  constructor(name, title, { town, tracker, connected }) {
    this.town = town;
    this.tracker = tracker;
    this.connected = connected;
    this.frame = new SeatFrame(name, title, town, { sit: (user) => this.sit(user), connect: () => this.seat.connect() });
    this.root = this.frame.root;
    this.root.append(this.#template.cloneNode(true));
    this.here = new Here(town.people);
    this.#part('.groups').after(this.here.root);
    this.seat = new Listener(name, {
      change: () => this.#show(),
      event: (event, at, source) => this.#arrived(event, at, source),
      problem: (text) => this.#problem(text),
    });
    for (const button of this.root.querySelectorAll('.rights button')) {
      button.addEventListener('click', () => this.#act(button));
    }
    this.#part('.composer').addEventListener('submit', (submit) => {
      submit.preventDefault();
      this.#publish();
    });
    this.#part('.draft').addEventListener('input', () => { this.#part('.draft').dataset.own = 'yes'; });
  }

  #part(selector) {
    return this.root.querySelector(selector);
  }

  get person() {
    return this.seat.person;
  }

  sit(user) {
    const person = this.frame.choose(user);
    rememberPerson(this.seat.name, person.user);
    this.acting = undefined; // the organization that the session names, once a socket has said so
    this.removed = false; // as far as this page knows
    this.suspended = false;
    this.revoked = undefined; // when a right was taken from the person, and how soon the socket ended
    this.#tellRevoked();
    this.#part('.events').replaceChildren();
    this.#part('.outcome-here').replaceChildren();
    this.#count(0);
    this.#problem('');
    this.#suggest(person);
    this.#groups(person);
    return this.seat.sit(person);
  }

  // What can be taken from the person, or given back; the organization is the session's.
  #rights() {
    const { person } = this.seat;
    if (this.seat.refusalCode === 'organization_suspended') this.suspended = true; // by someone, earlier
    if (this.seat.refusalCode === 'not_a_member' && !person?.suspended) this.removed = true;
    if (this.seat.live) this.suspended = this.removed = false;
    if (this.seat.org) this.acting = this.seat.org;
    const current = this.acting ?? person?.organization_id;
    const name = (id) => this.town.organizations.find((o) => o.id === id)?.name ?? '';
    const other = current === person?.also_organization_id ? person?.organization_id : person?.also_organization_id;
    const label = {
      'sign-out': 'Sign out',
      switch: other ? `Switch to ${name(other)}` : '',
      member: !current ? '' : this.removed ? `Add back to ${name(current)}` : `Remove from ${name(current)}`,
      organization: !current ? '' : this.suspended ? `Restore ${name(current)}` : `Suspend ${name(current)}`,
    };
    for (const button of this.root.querySelectorAll('.rights button')) {
      const text = label[button.dataset.act];
      button.hidden = text === '';
      button.textContent = text;
    }
    return other;
  }

  async #act(button) {
    const what = button.dataset.act;
    const body = what === 'switch' ? { organization_id: this.#rights() } : {};
    if (what === 'member') body.active = this.removed;
    if (what === 'organization') body.active = this.suspended;
    this.#problem('');
    const connected = this.seat.live;
    this.revoked = body.active || !connected ? undefined : { pressed: performance.now(), after: 0 };
    this.#tellRevoked();
    try {
      await this.seat.change(what, body);
    } catch (refusal) {
      this.revoked = undefined;
      this.#problem(`Not done: ${refusal.message} (${refusal.code}).`);
      return;
    }
    if (what === 'switch') this.acting = body.organization_id;
    if (what === 'member') this.removed = !this.removed;
    if (what === 'organization') this.suspended = !this.suspended;
    this.#rights();
    if (body.active) this.seat.connect();
  }

  /** Says how soon the socket ended after a right was taken, and what came over it since. */
  #tellRevoked() {
    const { took, after } = this.revoked ?? {};
    this.#part('.revoked').textContent = took === undefined ? '' : `Socket ended ${milliseconds(took)} after the press, ${after} ${after === 1 ? 'event' : 'events'} after.`;
  }

  // A newcomer should be able to press the button without thinking of words.
  #suggest(person) {
    const text = this.#part('.draft');
    if (text.dataset.own === 'yes') return;
    this.#messages++;
    text.value = this.#messages === 1 ? `Hello from ${person.name}` : `Hello again from ${person.name} (${this.#messages})`;
  }

  #groups(person) {
    const names = ['all', 'room.1', 'room.2', person.user_group];
    this.#part('.chips').replaceChildren(...names.map((name) => {
      const chip = el('button.chip', name);
      chip.type = 'button';
      chip.dataset.group = name;
      chip.addEventListener('click', () => this.seat.listen(name, !this.seat.groups.has(name)));
      return chip;
    }));
    const target = this.#part('.target');
    const chosen = names.includes(target.value) ? target.value : 'room.1';
    target.replaceChildren(...names.map((name) => new Option(name, name)));
    target.value = chosen;
  }

  #show() {
    const { seat } = this;
    if (this.frame.show(seat)) this.connected();
    this.#rights();
    if (this.revoked && !this.revoked.took && !seat.live) {
      this.revoked.took = performance.now() - this.revoked.pressed;
      this.#tellRevoked();
    }
    this.here.show(seat.here, SHOWN);
    for (const chip of this.root.querySelectorAll('.chip')) {
      chip.setAttribute('aria-pressed', String(seat.groups.has(chip.dataset.group)));
      chip.disabled = !seat.live;
    }
  }

  /** Publishes what the page suggests, so that something moves before the first click. */
  greet() {
    if (this.seat.live && this.#messages === 1 && this.#part('.draft').dataset.own !== 'yes') this.#publish();
  }

  async #publish() {
    const group = this.#part('.target').value;
    const input = this.#part('.draft');
    if (input.value.trim() === '') {
      this.#problem('Write something first.');
      return;
    }
    this.#problem('');
    const started = performance.now();
    const seats = this.tracker.snapshot();
    try {
      const published = await this.seat.publish(group, input.value);
      this.tracker.published(published, input.value, started, seats, this.#part('.outcome-here'));
      delete input.dataset.own;
      this.#suggest(this.person);
    } catch (refusal) {
      this.#problem(`Not published: ${refusal.message} (${refusal.code}). Your text is kept.`);
    }
  }

  #arrived(event, at, source) {
    if (this.revoked?.took !== undefined && at > this.revoked.pressed + this.revoked.took && this.seat.org === '') {
      this.revoked.after++;
      this.#tellRevoked();
    }
    const time = el('span.time', '');
    const text = typeof event.text === 'string' ? event.text : JSON.stringify(event);
    const group = el('code.to', '');
    const item = el('li', el('b', event.from ?? 'back end'), group, el('span.text', text), time);
    const list = this.#part('.events');
    list.prepend(item);
    while (list.children.length > MAX_EVENTS) list.lastElementChild.remove();
    this.#count(Number(this.#part('.count').textContent) + 1);
    this.root.classList.remove('arrived');
    requestAnimationFrame(() => this.root.classList.add('arrived'));
    this.tracker.received(this.seat, event, at, source, (entry, ms) => {
      group.textContent = entry.group ?? '';
      time.textContent = ms === null ? '' : milliseconds(ms);
    });
  }

  #count(n) {
    this.#part('.count').textContent = String(n);
    this.#part('.inbox .empty').hidden = n > 0;
    this.#part('.events').hidden = n === 0;
  }

  #problem(text) {
    this.#part('.problem').textContent = text;
  }
}
