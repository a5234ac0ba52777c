// Who is here: the people of one organization who are in a group, by name.

import { el } from './dom.js';
import { connect } from './orgcast.js';
import { socketURL } from './seat.js';

export class Here {
  root = el('p.here.hint');
  #people;
  #client = null;
  #key = ''; // whose, and in which group

  /** people: everyone of the demo. */
  constructor(people) {
    this.#people = people;
  }

  /** Shows users by their ids; place says where, and may be empty. */
  show(users, place) {
    const names = users.map((user) => this.#people.find((person) => person.user === user)?.name ?? user);
    this.root.textContent = names.length ? `Here${place ? ` in ${place}` : ''}: ${names.join(', ')}` : '';
  }

  /** Goes along with a seat: joins a group while its person is live there, over a socket for this alone. */
  follow(seat, group) {
    const key = seat.live ? `${seat.org} ${seat.person.user} ${group}` : '';
    if (key === this.#key) return;
    this.#key = key;
    this.#client?.close();
    this.#client = null;
    this.show([]);
    if (key === '') return;
    const client = connect(socketURL(seat.name), { transport: 'websocket' });
    this.#client = client;
    client.on('presence', ({ users }) => {
      if (client === this.#client) this.show((users ?? []).map(({ user_id: user }) => user).sort());
    });
    client.group(group, { presence: true });
  }
}
