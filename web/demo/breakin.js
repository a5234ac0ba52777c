// The break-in: Greta of Globex, with a valid session, against Ada of Acme. Every attempt goes over
// the wire as an attacker would send it, and its outcome is what the gateway answered. The last one
// proves an absence by order: after Ada's event comes one of Greta's own on the same path, so if hers
// arrives alone, Ada's was never on its way.

import { ask } from './ask.js';
import { once } from './once.js';
import { PROTOCOL, socketURL } from './seat.js';
import { announce, el, milliseconds } from './dom.js';

/** How long each attempt is shown at least, so that a person can follow. */
const PACE_MS = 300;

const ANSWER_MS = 15_000; // a busy machine takes its time, and no answer proves nothing

const ATTACKER = { seat: 'intruder', user: 'greta', name: 'Greta', org: 'globex' };
const VICTIM = { seat: 'witness', user: 'ada', name: 'Ada', org: 'acme' };

/** A bare socket that remembers all frames and lets one wait for some of them. */
class Wire {
  frames = [];
  #waiting = new Set();

  static open(seat) {
    return new Promise((resolve) => {
      const wire = new Wire();
      wire.socket = new WebSocket(socketURL(seat), PROTOCOL);
      wire.socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        wire.frames.push({ frame, at: performance.now() });
        for (const check of wire.#waiting) check();
        if (frame.type === 'welcome') resolve({ wire });
      };
      wire.socket.onclose = ({ code }) => {
        for (const check of wire.#waiting) check();
        resolve({ code });
      };
    });
  }

  /** The first frame from the given position on that matches, or null when time is up. */
  wait(matches, from = 0) {
    return new Promise((resolve) => {
      const finish = (found) => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        resolve(found);
      };
      const check = () => {
        const found = this.frames.slice(from).find(({ frame }) => matches(frame));
        if (found) finish(found);
        else if (this.socket.readyState > WebSocket.OPEN) finish(null);
      };
      const timer = setTimeout(() => finish(null), ANSWER_MS);
      this.#waiting.add(check);
      check();
    });
  }

  async answer(request, matches) {
    const from = this.frames.length;
    this.socket.send(JSON.stringify(request));
    return (await this.wait(matches, from))?.frame ?? null;
  }

  close() {
    this.socket.close();
  }
}

const refused = (code, raw, note) => ({ kind: 'held', text: note ? `refused: ${note}` : 'refused', code, raw });
const broken = (text, raw) => ({ kind: 'broken', text, raw });
const unclear = (text) => ({ kind: 'unclear', text });

/** Sends a frame and expects an error frame. */
async function frameRefused(wire, request, success) {
  const answer = await wire.answer(request, (f) => f.type === 'error' || f.type === success);
  if (answer === null) return unclear('no answer');
  const raw = JSON.stringify(answer);
  return answer.type === 'error' ? refused(answer.code, raw) : broken(`the gateway answered ${answer.type}`, raw);
}

/** Posts to the demo and expects a refusal. */
async function postRefused(body) {
  try {
    await ask('/demo/publish', body);
    return broken('it was published');
  } catch (refusal) {
    if (refusal.status === 0 || refusal.status >= 500) return unclear(refusal.message);
    return refused(refusal.code, `HTTP ${refusal.status} ${JSON.stringify({ code: refusal.code, message: refusal.message })}`);
  }
}

/** Publishes to room.1 and enters it in the list of deliveries. */
async function publish(tracker, seat, text) {
  const seats = tracker.snapshot();
  const started = performance.now();
  const published = await ask('/demo/publish', { seat, group: 'room.1', text });
  tracker.published(published, text, started, seats);
  return published;
}

const ATTEMPTS = [
  {
    title: 'Listen to Ada’s private group',
    code: '{"type":"subscribe","group":"user.ada"}',
    run: ({ wire }) => frameRefused(wire, { type: 'subscribe', group: 'user.ada' }, 'subscribed'),
  },
  {
    title: 'Name Acme’s channel in Redis',
    code: '{"type":"subscribe","group":"orgcast:{acme}:group:room.1"}',
    run: ({ wire }) => frameRefused(wire, { type: 'subscribe', group: 'orgcast:{acme}:group:room.1' }, 'subscribed'),
  },
  {
    title: 'Forge an event through the socket',
    code: '{"type":"note","organization_id":"acme","text":"forged"}',
    run: ({ wire }) => frameRefused(wire, { type: 'note', organization_id: 'acme', text: 'forged' }, 'note'),
  },
  {
    title: 'Publish with a forged organization',
    code: 'POST {"group":"room.1","organization_id":"acme"}',
    run: () => postRefused({ seat: ATTACKER.seat, group: 'room.1', text: 'forged', organization_id: 'acme' }),
  },
  {
    title: 'Publish to Ada’s private group',
    code: 'POST {"group":"user.ada"}',
    run: () => postRefused({ seat: ATTACKER.seat, group: 'user.ada', text: 'forged' }),
  },
  {
    title: 'Connect with a made-up session',
    code: 'Cookie: orgcast_session=ada',
    async run() {
      document.cookie = 'orgcast_session_forged=ada; path=/; SameSite=Lax';
      const { wire, code } = await Wire.open('forged');
      document.cookie = 'orgcast_session_forged=; path=/; Max-Age=0; SameSite=Lax';
      wire?.close();
      if (wire) return broken('the gateway let her in');
      return refused(String(code), `close ${code}, which is all that a browser tells of a refused handshake`, 'no handshake');
    },
  },
  {
    title: 'Claim Acme while joining, then listen while Ada publishes',
    code: '{"type":"subscribe","group":"room.1","organization_id":"acme"}',
    async run({ wire, victim, tracker }) {
      const answer = await wire.answer({ type: 'subscribe', group: 'room.1', organization_id: 'acme' },
        (f) => f.group === 'room.1' && (f.type === 'subscribed' || f.type === 'error'));
      if (answer === null) return unclear('no answer');
      if (answer.type === 'error') return refused(answer.code, JSON.stringify(answer));
      const joined = await victim.answer({ type: 'subscribe', group: 'room.1' }, (f) => f.type === 'subscribed');
      if (joined === null) return unclear('Ada could not listen');
      const from = wire.frames.length;
      const started = performance.now();
      const secret = await publish(tracker, VICTIM.seat, 'Acme only');
      const heard = await victim.wait((f) => f.event?.id === secret.id);
      const own = await publish(tracker, ATTACKER.seat, 'Globex only');
      const control = await wire.wait((f) => f.event?.id === own.id, from);
      const came = wire.frames.slice(from).map(({ frame }) => frame.event ?? frame);
      if (came.some((event) => event.id === secret.id || event.organization_id === VICTIM.org)) {
        return broken('Greta received Ada’s event');
      }
      if (heard === null || control === null) return unclear('a control event did not arrive');
      return {
        kind: 'held', code: 'never sent',
        raw: came.map((event) => JSON.stringify(event)).join(' '),
        text: `her room.1 is Globex’s own. Ada heard hers in ${milliseconds(heard.at - started)}; Greta only the one she sent after it`,
      };
    },
  },
];

function row(attempt) {
  const outcome = el('span.outcome', '');
  const raw = el('code.raw', '…');
  raw.tabIndex = 0; // it may be longer than the line
  raw.setAttribute('role', 'group');
  raw.setAttribute('aria-label', `Answer to: ${attempt.title}`);
  const item = el('li', el('span.sign', '·'), el('div.attempt', el('b', attempt.title), el('code', attempt.code)), outcome, raw);
  item.dataset.kind = 'idle';
  return {
    item,
    show({ kind, text, code, raw: said = '…' }) {
      raw.textContent = said;
      item.dataset.kind = kind;
      item.firstElementChild.textContent = { held: '✓', broken: '✗', unclear: '?', running: '…' }[kind];
      outcome.replaceChildren(...(code ? [el('code', code), ' '] : []), text);
    },
  };
}

export function setUpBreakIn(tracker) {
  const button = document.getElementById('breakin-start');
  const verdict = document.getElementById('verdict');
  const rows = ATTEMPTS.map(row);
  document.getElementById('attempts').replaceChildren(...rows.map(({ item }) => item));

  button.removeAttribute('aria-disabled');
  button.addEventListener('click', () => once(button, async () => {
    verdict.dataset.kind = 'running';
    verdict.textContent = 'Breaking in…';
    if (button.dataset.restore) await ask('/demo/reset', {});
    delete button.dataset.restore;
    const missing = await absent();
    if (missing) {
      verdict.dataset.kind = 'unclear';
      verdict.textContent = `Not run: ${missing}`;
      button.dataset.restore = 'yes';
      button.textContent = 'Restore everyone and run';
      return;
    }
    const outcomes = await attack(rows, tracker);
    const held = outcomes.filter(({ kind }) => kind === 'held').length;
    const kind = outcomes.some((o) => o.kind === 'broken') ? 'broken' : held === ATTEMPTS.length ? 'held' : 'unclear';
    verdict.dataset.kind = kind;
    verdict.textContent = {
      held: `${held} attempts, ${held} held off. Greta received nothing of Acme’s.`,
      broken: 'Greta got through. That is a bug in the gateway: please report it.',
      unclear: `${held} of ${ATTEMPTS.length} attempts held off; the others got no clear answer.`,
    }[kind];
    announce(verdict.textContent);
    button.textContent = 'Try again';
  }));
}

/** Signs attacker and victim in, and says why one of them could not take part; '' if both can. */
async function absent() {
  for (const { seat, user, name } of [ATTACKER, VICTIM]) {
    try {
      await ask('/demo/sign-in', { seat, user });
      await ask(`/demo/who?seat=${seat}`);
    } catch (refusal) {
      return `${name} cannot take part: ${refusal.message}.`;
    }
  }
  return '';
}

/** Runs all attempts one after the other and returns their outcomes. */
async function attack(rows, tracker) {
  let wire;
  let victim;
  const outcomes = [];
  try {
    ({ wire } = await Wire.open(ATTACKER.seat));
    ({ wire: victim } = await Wire.open(VICTIM.seat));
    for (const [i, attempt] of ATTEMPTS.entries()) {
      rows[i].show({ kind: 'running', text: 'trying…' });
      const shown = new Promise((resolve) => setTimeout(resolve, PACE_MS));
      let outcome;
      try {
        outcome = wire && victim ? await attempt.run({ wire, victim, tracker }) : unclear('the gateway let neither of them in');
      } catch (refusal) {
        outcome = unclear(refusal.message);
      }
      await shown;
      rows[i].show(outcome);
      outcomes.push(outcome);
    }
  } catch (refusal) {
    for (const { show } of rows) show(unclear(refusal.message));
  } finally {
    wire?.close();
    victim?.close();
  }
  return outcomes;
}
