// A small site with sign-in, organizations and notes that appear on open pages. docs/express.md explains it.

import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { createClient } from 'redis';
import { announce, gateway } from './gateway.js';
import { identity, sessionName } from './identity.js';
import { notesPage, signInPage } from './page.js';
import { leave, memberships, organizations, signIn } from './people.js';

const { NOTES_REDIS, NOTES_SESSION_SECRET: secret, NOTES_SESSION_KEY: key, NOTES_PORT = '8000' } = process.env;
const client = await createClient({ url: NOTES_REDIS }).connect();
const store = new RedisStore({ client });
const app = express().set('trust proxy', 'loopback');

// Before the sessions, so that a question never makes one.
app.post('/orgcast/identity', express.json({ limit: '1mb' }), identity({ key, secret, store, memberships }));

app.get('/live.js', (request, response) => response.sendFile('live.js', { root: import.meta.dirname }));
app.use(session({
  store, secret, resave: false, saveUninitialized: false,
  cookie: { httpOnly: true, sameSite: 'lax', secure: 'auto', maxAge: 14 * 86_400_000 },
}));
app.use(express.urlencoded({ extended: false }));

app.get('/sign-in', (request, response) => response.send(signInPage()));

app.post('/sign-in', async (request, response) => {
  const { user, password } = request.body;
  if (!signIn(user, password)) return response.status(403).send(signInPage());
  await change(request, 'regenerate'); // a new key: nobody can have planted it
  Object.assign(request.session, { user, organization: organizations(user)[0] });
  response.redirect('/');
});

app.use((request, response, next) => (request.session.user ? next() : response.redirect('/sign-in')));

app.get('/', (request, response) => {
  const { user } = request.session;
  response.send(notesPage({ user, organizations: organizations(user) }));
});

app.post('/notes', async (request, response) => {
  const { organization } = request.session;
  await gateway.publish(organization, 'all', { type: 'note', text: request.body.text });
  response.redirect('/');
});

app.post('/switch', async (request, response) => {
  const { user } = request.session;
  const { organization } = request.body;
  if (!organizations(user).includes(organization)) return response.sendStatus(403);
  request.session.organization = organization;
  await change(request, 'save'); // first: the page reconnects at once
  await announce({ type: 'organization.switched', session_id: sessionName(request.session.id), organization_id: organization });
  response.redirect('/');
});

app.post('/leave', (request, response) => {
  leave(request.session.user, request.session.organization); // the gateway finds out by itself
  response.redirect('/');
});

app.post('/sign-out', async (request, response) => {
  const name = sessionName(request.session.id);
  await change(request, 'destroy');
  await announce({ type: 'session.ended', session_id: name });
  response.redirect('/sign-in');
});

/** Calls a method of the session, and waits for it. */
function change(request, method) {
  return new Promise((resolve, reject) => {
    request.session[method]((error) => (error ? reject(error) : resolve()));
  });
}

const server = app.listen(Number(NOTES_PORT), '127.0.0.1', () => console.log(`site on port ${server.address().port}`));
