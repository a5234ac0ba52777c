// What operators see: all nodes and organizations.

import { asker } from './api.js';
import { ago, bytes, clock, figure, h, say, seconds, show, table } from './dom.js';
import { explainForm, revokeForm } from './forms.js';

const STORED = 'orgcast-admin-key';
const TOP = 20;

const load = [
  { name: 'Connections', of: (row) => figure(row.connections), number: true },
  { name: 'Deliveries/s', of: (row) => figure(row.deliveries_per_second), number: true },
  { name: 'Waiting', of: (row) => bytes(row.queued_bytes), number: true },
  { name: 'Lag', of: (row) => seconds(row.lag_seconds), number: true },
];

const named = (id) => id || '(none)';

export function operators({ main, refresh }) {
  const ask = asker('/v1', () => {
    const key = sessionStorage.getItem(STORED);
    return key ? { Authorization: `Bearer ${key}` } : {};
  });

  // The key.
  const key = h('input', { id: 'key', type: 'password', autocomplete: 'off', required: true });
  const keyProblem = h('p', { class: 'problem', role: 'alert' });
  const form = h('form', {
    class: 'card key', hidden: true,
    onsubmit: (submitted) => {
      submitted.preventDefault();
      sessionStorage.setItem(STORED, key.value.trim());
      key.value = '';
      refresh();
    },
  }, h('label', { for: 'key' }, 'Admin key'), key, h('button', { class: 'primary' }, 'Open'), keyProblem,
  h('p', { class: 'hint' }, 'The gateway’s --admin-key. This tab keeps it until you close the tab or choose “Forget the key”.'));

  // Nodes.
  const nodes = h('ul', { class: 'nodes' });
  const showNode = (element, node) => {
    element.dataset.state = node.state !== 'answered' ? node.state : node.ready ? 'ready' : 'unready';
    const words = { ready: 'ready', unready: `not ready: ${(node.not_ready ?? []).join(', ')}`, silent: 'does not answer', failed: 'does not understand the question' };
    const [name, state, counts, about] = element.children;
    say(name, node.node);
    say(state, words[element.dataset.state]);
    say(counts, node.state === 'answered' ? `${figure(node.connections)} connections, ${figure(node.organizations)} organizations, ${figure(node.groups)} groups` : '');
    say(about, `version ${node.version || 'unknown'}, started ${ago(node.started_at)}`);
  };

  // Organizations, the busiest first, as a map and a table.
  let chosen = '';
  const map = h('ul', { class: 'map' });
  const choose = (id) => {
    chosen = id;
    detail.hidden = false;
    say(detailTitle, `Organization ${id}`);
    detail.scrollIntoView({ block: 'nearest' });
    detailTitle.focus();
    explain.prefill(id);
    tellUsage(id);
    refresh();
  };
  const sort = h('select', { id: 'sort', onchange: () => refresh() },
    ...[['connections', 'connections'], ['deliveries_per_second', 'deliveries per second'], ['queued_bytes', 'waiting bytes'], ['lag_seconds', 'lag']]
      .map(([value, text]) => h('option', { value }, text)));
  const organizations = table('Organizations', [
    { name: 'Organization', of: (row) => named(row.organization_id) }, { name: 'Nodes', of: (row) => figure(row.nodes), number: true }, ...load,
  ], {
    key: (row) => row.organization_id, empty: 'No organization is connected.',
    action: (row) => {
      const button = h('button', { type: 'button', class: 'quiet', onclick: () => choose(row().organization_id) }, 'Open');
      button.refresh = (now) => {
        button.setAttribute('aria-label', `Open organization ${named(now.organization_id)}`);
        button.hidden = !now.organization_id;
      };
      return button;
    },
  });

  // One organization.
  const detailTitle = h('h2', { id: 'detail-title', tabindex: '-1' }, '');
  const groups = table('Groups', [
    { name: 'Group', of: (row) => row.group }, { name: 'Connections', of: (row) => figure(row.connections), number: true },
    { name: 'Nodes', of: (row) => figure(row.nodes), number: true },
  ], { key: (row) => row.group, empty: 'No group has members.' });
  const who = [
    { name: 'User', of: (row) => row.user_id }, { name: 'Since', of: (row) => ago(row.connected_at) },
    { name: 'Route', of: (row) => row.route }, { name: 'Node', of: (row) => row.node },
    { name: 'Delivered', of: (row) => figure(row.deliveries), number: true }, { name: 'Waiting', of: (row) => bytes(row.queued_bytes), number: true },
    { name: 'Lag', of: (row) => seconds(row.lag_seconds), number: true },
  ];
  const connections = table('Connections', who, {
    key: (row) => row.connection_id, empty: 'No connection.',
    action: (row) => {
      const button = h('button', { type: 'button', class: 'quiet', onclick: () => revoke.prefill('session.ended', { session_id: row().session_id }) }, 'End session');
      button.refresh = (now) => button.setAttribute('aria-label', `End session of ${now.user_id}`);
      return button;
    },
  });
  const usage = h('p', { class: 'hint' });
  const tellUsage = async (id) => {
    say(usage, '');
    try {
      const { usage: hours } = await ask('/usage', { parameters: { organization_id: id } });
      const sum = (of) => hours.reduce((total, hour) => total + of(hour), 0);
      if (id === chosen) say(usage, `In the last 24 hours: ${figure(sum((hour) => hour.deliveries))} events delivered, ${bytes(sum((hour) => hour.delivered_bytes))}.`);
    } catch (problem) {
      if (id === chosen) say(usage, problem.message);
    }
  };
  const close = () => {
    chosen = '';
    detail.hidden = true;
    main.focus();
  };
  const detail = h('section', { class: 'card', hidden: true, 'aria-labelledby': 'detail-title' },
    h('div', { class: 'head' }, detailTitle, h('button', { type: 'button', class: 'quiet', onclick: close }, 'Close')),
    usage, h('h3', {}, 'Groups'), groups.element, h('h3', {}, 'Connections'), connections.element);

  const slow = table('Slow connections', [{ name: 'Organization', of: (row) => named(row.organization_id) }, ...who], {
    key: (row) => row.connection_id, empty: 'No browser is behind.',
  });
  const tasks = table('Tasks', [
    { name: 'Kind', of: (row) => row.kind }, { name: 'Waiting', of: (row) => figure(row.waiting), number: true },
    { name: 'Unread', of: (row) => figure(row.unread), number: true }, { name: 'With a worker', of: (row) => figure(row.held), number: true },
    { name: 'Dead', of: (row) => figure(row.dead), number: true },
  ], { key: (row) => row.kind, empty: 'No kind of task is known.' });
  const revocations = table('Revocations', [
    { name: 'When', of: (row) => clock(row.at) }, { name: 'Type', of: (row) => row.type },
    { name: 'Of', of: (row) => [row.user_id, row.organization_id, row.session_id].filter(Boolean).join(', ') },
    { name: 'Closed', of: (row) => figure(row.connections), number: true },
  ], { key: (row) => `${row.at} ${row.type} ${row.user_id} ${row.organization_id} ${row.session_id}`, empty: 'None since the nodes started.' });
  const tasksProblem = h('p', { class: 'problem' });
  const explain = explainForm(ask);
  const revoke = revokeForm(ask, refresh);
  const partial = h('p', { class: 'notice', hidden: true }, 'Not all nodes answer, so figures may be too low.');

  const section = (id, title, ...content) => h('section', { class: 'card', 'aria-labelledby': id }, h('h2', { id }, title), ...content);
  const data = h('div', { hidden: true }, partial,
    section('nodes', 'Nodes', nodes),
    section('organizations', 'Organizations', h('p', { class: 'hint' }, 'Each tile is an organization, as wide as its share of the connections.'), map,
      h('p', { class: 'row' }, h('label', { for: 'sort' }, 'Largest by'), sort), organizations.element),
    detail, section('slow', 'Slow connections', h('p', { class: 'hint' }, 'Browsers that have kept a write waiting the longest.'), slow.element),
    section('explain', 'Why did an event not arrive?', explain.element),
    section('revocations', 'Revocations', revoke.element, h('h3', {}, 'Latest'), revocations.element),
    section('tasks', 'Tasks', tasksProblem, tasks.element));
  say(document.getElementById('title'), 'All nodes');
  main.append(form, data);

  async function refreshAll() {
    const top = (path, by) => ask(path, { parameters: { sort: by, limit: TOP } });
    const [all, orgs, behind, heard, counts] = await Promise.all([
      ask('/nodes'), top('/organizations', sort.value), top('/connections', 'lag_seconds'), ask('/revocations'),
      ask('/tasks').catch((problem) => ({ tasks: [], problem })), // the rest is worth seeing without them
    ]);
    show(nodes, all.nodes, (node) => node.node, () => h('li', {}, h('strong'), h('span', { class: 'badge' }), h('span'), h('span', { class: 'hint' })), showNode);
    organizations.fill(orgs.organizations);
    const total = Math.max(1, orgs.organizations.reduce((sum, row) => sum + row.connections, 0));
    show(map, orgs.organizations.filter((row) => row.organization_id), (row) => row.organization_id,
      (row) => h('li', {}, h('button', { type: 'button', onclick: () => choose(row.organization_id) }, h('strong', {}, row.organization_id), h('span'))),
      (element, row) => {
        element.style.flexGrow = String(Math.max(0.08, row.connections / total));
        element.firstChild.toggleAttribute('data-slow', row.lag_seconds >= 1);
        say(element.firstChild.lastChild, `${figure(row.connections)} connected${row.lag_seconds >= 1 ? ', slow' : ''}`);
      });
    slow.fill(behind.connections.filter((row) => row.lag_seconds > 0 || row.queued_bytes > 0));
    revocations.fill(heard.revocations.slice(0, TOP));
    tasks.fill(counts.tasks);
    say(tasksProblem, counts.problem?.message ?? '');
    partial.hidden = all.complete && orgs.complete && behind.complete && heard.complete;
    if (chosen) {
      const of = { organization_id: chosen, sort: 'connections', limit: 100 };
      const [members, open] = await Promise.all([ask('/groups', { parameters: of }), ask('/connections', { parameters: of })]);
      groups.fill(members.groups);
      connections.fill(open.connections);
    }
    form.hidden = true;
    data.hidden = false;
  }

  return {
    refresh: refreshAll,
    keyHeld: () => sessionStorage.getItem(STORED) !== null,
    forget() {
      sessionStorage.removeItem(STORED);
      data.hidden = true;
    },
    refused({ status, code, message }) {
      if (status !== 401 && status !== 403) return;
      const tried = sessionStorage.getItem(STORED) !== null;
      sessionStorage.removeItem(STORED);
      data.hidden = true;
      if (form.hidden) {
        form.hidden = false;
        key.focus();
      }
      if (tried || code !== 'unauthenticated') say(keyProblem, code === 'unauthenticated' ? 'This is not the admin key.' : message);
    },
  };
}
