// What the administrators of one organization see: its devices, how events reach them, and usage. The web
// application opens the page with #org=…&user=…&token=…, which is taken out of the address at once.

import { asker } from './api.js';
import { ago, bytes, clock, figure, h, say, seconds, show, table } from './dom.js';
import { program } from './program.js';

const STORED = 'orgcast-console';
const USAGE_MS = 60_000;

/** Takes who this is from the fragment, or from before a reload. The address bar and the history keep nothing. */
function credentials() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has('token')) {
    sessionStorage.setItem(STORED, JSON.stringify({ org: given.get('org') ?? '', user: given.get('user') ?? '', token: given.get('token') }));
    history.replaceState(null, '', location.pathname);
  }
  return JSON.parse(sessionStorage.getItem(STORED) ?? 'null');
}

/** One device for each session, with its connections; the newest first. */
function devicesOf(rows) {
  const devices = new Map();
  for (const row of rows) {
    const key = row.session_id || row.connection_id;
    const known = devices.get(key);
    if (!known) {
      devices.set(key, { ...row, key, connections: 1 });
      continue;
    }
    known.connections++;
    known.queued_bytes += row.queued_bytes;
    known.lag_seconds = Math.max(known.lag_seconds, row.lag_seconds);
    if (row.connected_at < known.connected_at) known.connected_at = row.connected_at;
    if (row.last_heard_at > known.last_heard_at) known.last_heard_at = row.last_heard_at;
  }
  return [...devices.values()].sort((a, b) => (a.connected_at < b.connected_at ? 1 : -1));
}

export function organization({ main, refresh }) {
  let who = credentials();
  addEventListener('hashchange', () => {
    who = credentials();
    refresh();
  });
  const ask = asker('v1', () => (who ? {
    Authorization: `Bearer ${who.token}`, 'Orgcast-Organization': who.org, 'Orgcast-User': encodeURIComponent(who.user),
  } : {}));

  const figures = Object.fromEntries(['Connections', 'Deliveries per second', 'Waiting', 'Longest wait'].map((name) => [name, h('dd')]));
  const health = h('dl', { class: 'figures' }, ...Object.entries(figures).map(([name, value]) => h('div', {}, h('dt', {}, name), value)));
  const verdict = h('p', { class: 'hint' });

  // Devices.
  const outcome = h('p', { class: 'answer', role: 'status' });
  const asked = h('p');
  const confirm = h('button', { type: 'button', class: 'danger' }, 'Revoke');
  const dialog = h('dialog', { 'aria-labelledby': 'revoke-title' },
    h('h2', { id: 'revoke-title' }, 'Revoke this device?'), asked,
    h('p', { class: 'hint' }, 'Its live connections close within a second, and its session cannot open new ones. The person can sign in again; to shut them out, remove them in your application.'),
    h('div', { class: 'choices' }, h('button', { type: 'button', class: 'quiet', onclick: () => dialog.close() }, 'Cancel'), confirm));
  let target;
  confirm.addEventListener('click', async () => {
    dialog.close();
    try {
      await ask('/revoke', { body: { connection_id: target.connection_id } });
      say(outcome, `Revoked a device of ${target.user_id}.`);
    } catch (problem) {
      say(outcome, problem.message);
    }
    refresh();
  });
  const devices = table('Devices', [
    { name: 'User', of: (row) => row.user_id + (row.user_id === who?.user ? ' (you)' : '') },
    { name: 'Device', of: (row) => program(row.user_agent) }, { name: 'Address', of: (row) => row.client },
    { name: 'Since', of: (row) => ago(row.connected_at) }, { name: 'Last heard', of: (row) => ago(row.last_heard_at) },
    { name: 'Connections', of: (row) => figure(row.connections), number: true },
    { name: 'Waiting', of: (row) => (row.queued_bytes ? `${bytes(row.queued_bytes)}, ${seconds(row.lag_seconds)}` : 'nothing'), number: true },
  ], {
    key: (row) => row.key, empty: 'No device is connected.',
    action: (row) => {
      const button = h('button', {
        type: 'button', class: 'quiet', onclick: () => {
          target = row();
          say(outcome, '');
          say(asked, `${target.user_id}: ${program(target.user_agent)}, since ${clock(target.connected_at)}.`);
          dialog.showModal();
        },
      }, 'Revoke');
      button.refresh = (now) => button.setAttribute('aria-label', `Revoke a device of ${now.user_id}: ${program(now.user_agent)}`);
      return button;
    },
  });
  const more = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => { pages++; refresh(); } }, 'Show more');
  const find = h('input', { id: 'find', autocomplete: 'off', spellcheck: 'false', onchange: () => refresh() });
  let pages = 1;

  // Usage.
  const hours = h('div', { class: 'hours', 'aria-hidden': 'true' });
  const total = h('p', { class: 'hint' });
  const usage = table('Usage by hour', [
    { name: 'Hour', of: (row) => clock(row.hour) }, { name: 'Peak connections', of: (row) => figure(row.peak_connections), number: true },
    { name: 'Deliveries', of: (row) => figure(row.deliveries), number: true }, { name: 'Delivered', of: (row) => bytes(row.delivered_bytes), number: true },
    { name: 'Slowest write', of: (row) => seconds(row.lag_seconds), number: true },
  ], { key: (row) => row.hour, empty: 'Nothing was delivered in the last 24 hours.' });
  const usageCard = h('section', { class: 'card', 'aria-labelledby': 'usage', hidden: true }, h('h2', { id: 'usage' }, 'Usage of the last 24 hours'), total, hours,
    h('details', {}, h('summary', {}, 'By hour'), usage.element));

  const partial = h('p', { class: 'notice', hidden: true }, 'Not all of the service answers, so devices may be missing.');
  const data = h('div', { hidden: true }, partial,
    h('section', { class: 'card', 'aria-labelledby': 'health' }, h('h2', { id: 'health' }, 'Delivery'), verdict, health),
    h('section', { class: 'card', 'aria-labelledby': 'devices' }, h('h2', { id: 'devices' }, 'Devices'),
      h('p', { class: 'hint' }, 'A device is a signed-in browser or program with live connections.'),
      h('p', { class: 'row' }, h('label', { for: 'find' }, 'Only of user'), find), outcome, devices.element, more),
    usageCard, dialog);
  const closed = h('section', { class: 'card', hidden: true }, h('p', { class: 'problem' }));
  say(document.getElementById('title'), who ? `Organization ${who.org}` : 'Organization');
  main.append(closed, data);

  let usageRead = 0; // reading it costs Redis more than the rest, and it changes slowly
  async function readUsage() {
    if (Date.now() - usageRead < USAGE_MS) return;
    const { usage: rows } = await ask('/usage');
    usage.fill(rows.toReversed());
    const most = Math.max(1, ...rows.map((row) => row.deliveries));
    show(hours, rows, (row) => row.hour, () => h('span'), (bar, row) => { bar.style.height = `${(100 * row.deliveries) / most}%`; });
    hours.hidden = rows.length === 0;
    say(total, `${figure(rows.reduce((sum, row) => sum + row.deliveries, 0))} events delivered, ${bytes(rows.reduce((sum, row) => sum + row.delivered_bytes, 0))}.`);
    usageCard.hidden = false;
    usageRead = Date.now();
  }

  return {
    async refresh() {
      const [now] = await Promise.all([ask('/health'), readUsage().catch((problem) => {
        if (problem.code !== 'not_kept') throw problem;
        usageRead = Date.now();
      })]);
      let rows = [];
      let complete = now.complete;
      let cursor;
      for (let page = 0; page < pages; page++) {
        const answer = await ask('/devices', { parameters: { user_id: find.value.trim(), cursor } });
        rows = rows.concat(answer.devices);
        complete &&= answer.complete;
        cursor = answer.next;
        if (!cursor) break;
      }
      more.hidden = !cursor;
      devices.fill(devicesOf(rows));
      say(figures.Connections, figure(now.connections));
      say(figures['Deliveries per second'], figure(now.deliveries_per_second));
      say(figures.Waiting, bytes(now.queued_bytes));
      say(figures['Longest wait'], seconds(now.lag_seconds));
      say(verdict, now.lag_seconds < 1 ? 'Events reach all connected devices promptly.' : 'At least one device reads too slowly. Its network may be bad; the others are not affected.');
      partial.hidden = complete;
      closed.hidden = true;
      data.hidden = false;
    },
    refused({ status, message }) {
      if (status !== 401 && status !== 403) return;
      sessionStorage.removeItem(STORED);
      who = null;
      data.hidden = true;
      closed.hidden = false;
      if (dialog.open) dialog.close();
      say(closed.firstChild, message);
    },
  };
}
