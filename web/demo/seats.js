// The two seats of every page: who sits there, and the head of their panel.

import { el } from './dom.js';

export const SEATS = [
  { name: 'left', title: 'First person', user: 'ada' },
  { name: 'right', title: 'Second person', user: 'grace' },
];

/** Who sits at the seat: as the address says, as chosen before in this tab, or the usual one. */
export function chosenPerson({ name, user }) {
  return new URLSearchParams(location.search).get(name) ?? sessionStorage.getItem(`seat.${name}`) ?? user;
}

export function rememberPerson(name, user) {
  sessionStorage.setItem(`seat.${name}`, user);
}

/**
 * The panel of a seat with its head and the state of its socket; what the page shows below it is the
 * page's own. sit(user) is told of another choice, connect of the wish to try again.
 */
export class SeatFrame {
  #town;
  #select = el('select.person');
  #avatar = el('span.avatar');
  #org = el('span.org');
  #state = el('div.state');
  #text = el('p.state-text');
  #reconnect = el('button.quiet.reconnect', 'Connect again');

  constructor(name, title, town, { sit, connect }) {
    this.#town = town;
    for (const person of town.people) {
      const option = el('option', `${person.name} (${person.hint})`);
      option.value = person.user;
      this.#select.append(option);
    }
    this.#select.addEventListener('change', () => sit(this.#select.value));
    this.#reconnect.type = 'button';
    this.#reconnect.hidden = true;
    this.#reconnect.addEventListener('click', connect);
    this.#avatar.setAttribute('aria-hidden', 'true');
    this.#text.setAttribute('role', 'status');
    const dot = el('span.dot');
    dot.setAttribute('aria-hidden', 'true');
    this.#state.dataset.state = 'connecting';
    this.#state.append(dot, this.#text, this.#reconnect);
    this.root = el('article.seat',
      el('div.seat-head', this.#avatar, el('label.who', el('span.label', 'Signed in as'), this.#select), this.#org), this.#state);
    this.root.dataset.org = '';
    this.root.dataset.seat = name;
    this.root.setAttribute('aria-label', title);
  }

  /** The person with that user id; the first one if there is none. */
  choose(user) {
    const person = this.#town.people.find((p) => p.user === user) ?? this.#town.people[0];
    this.#select.value = person.user;
    return person;
  }

  /** Shows the seat, and reports whether its socket opened or closed since the last time. */
  show(seat) {
    const organization = this.#town.organizations.find((o) => o.id === (seat.org || seat.person?.organization_id));
    this.root.dataset.org = organization?.id ?? '';
    this.#org.textContent = organization?.name ?? 'no organization';
    this.#avatar.textContent = seat.person?.name[0] ?? '';
    const before = this.#state.dataset.state;
    this.#state.dataset.state = seat.state;
    this.#text.textContent = seat.text;
    this.#reconnect.hidden = seat.state === 'live' || seat.state === 'connecting';
    this.#reconnect.textContent = seat.mustSignIn ? 'Sign in again' : 'Connect again';
    return before !== seat.state && (before === 'live' || seat.live);
  }
}
