'use client';

import { useEffect, useState } from 'react';

// Shows notes as they come.
export default function Live({ user }) {
  const [organization, setOrganization] = useState('no organization');
  const [status, setStatus] = useState('');
  const [notes, setNotes] = useState([]);
  useEffect(() => {
    const loading = import(/* turbopackIgnore: true */ '/orgcast.js').then(({ connect }) => {
      const client = connect('/ws/events');
      client.on('welcome', (frame) => setOrganization(frame.organization_id));
      client.on('note', ({ text }) => setNotes((earlier) => [...earlier, text]));
      client.onStatus(({ state, code }) => setStatus(code ? `${state} ${code}` : state));
      client.subscribe('all');
      return client;
    });
    return () => { loading.then((client) => client.close()); };
  }, []);
  return (
    <>
      <h1>{user} of <span id="organization">{organization}</span></h1>
      <p id="status">{status}</p>
      <ol id="notes">{notes.map((text, i) => <li key={i}>{text}</li>)}</ol>
    </>
  );
}
