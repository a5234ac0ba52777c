'use server';

import { randomUUID } from 'node:crypto';
import { redirect } from 'next/navigation';
import { announce, gateway } from '../lib/gateway.js';
import { activate, active, knows, leave as remove } from '../lib/people.js';
import { session, sessionName, signedIn } from '../lib/session.js';

export async function signIn(form) {
  const user = form.get('user');
  if (!knows(user, form.get('password'))) redirect('/sign-in');
  const own = await session();
  Object.assign(own, { user, id: randomUUID() });
  await own.save();
  redirect('/');
}

export async function add(form) {
  const { user } = await signedIn();
  await gateway().publish(active(user), 'all', { type: 'note', text: form.get('text') });
}

export async function change(form) {
  const own = await signedIn();
  const organization = form.get('organization');
  activate(own.user, organization); // first: the page reconnects at once
  await announce({ type: 'organization.switched', session_id: sessionName(own), organization_id: organization });
}

export async function leave() {
  const { user } = await signedIn();
  remove(user); // the gateway finds out by itself
}

export async function signOut() {
  const own = await signedIn();
  const name = sessionName(own);
  own.destroy();
  await announce({ type: 'session.ended', session_id: name });
  redirect('/sign-in');
}
