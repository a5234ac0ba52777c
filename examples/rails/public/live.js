// Shows notes as they come. orgcast.js is the browser client.

import { connect } from '/orgcast.js';

const show = (id, text) => { document.getElementById(id).textContent = text; };

const client = connect('/ws/events');
client.on('welcome', ({ organization_id: organization }) => show('organization', organization));
client.on('note', ({ text }) => {
  document.getElementById('notes').appendChild(document.createElement('li')).textContent = text;
});
client.onStatus(({ state, code }) => show('status', code ? `${state} ${code}` : state));
client.subscribe('all');
