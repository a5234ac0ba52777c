// Publish to Orgcast from Node.js 18 or newer, without packages: copy this file.

import { createHash, createHmac, randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

/** How often record and revoke are tried. Repeating them does no harm. */
const ATTEMPTS = 3;
const ID = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * A call that was refused or failed. `code` is one of the codes of docs/protocol.md, `unreachable` if no answer
 * came, or `bad_answer` if the answer is not Orgcast's. `status` is the HTTP status, 0 without an answer.
 */
export class OrgcastError extends Error {
  constructor(call, status, code, options) {
    super(`orgcast ${call}: ${code} (status ${status})`, options);
    this.name = 'OrgcastError';
    this.status = status;
    this.code = code;
  }
}

export class Orgcast {
  #url;
  #headers;
  #timeout;

  /** `url` is the gateway's private listener, `key` its --publish-key, `timeout` the milliseconds for each attempt. */
  constructor(url, key, { timeout = 5000 } = {}) {
    if (!key) throw new TypeError('orgcast: the key is empty');
    this.#url = new URL(url).href.replace(/\/+$/, '');
    this.#headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
    this.#timeout = timeout;
  }

  /** Sends an event to the members of a group who are connected now. Resolves to `{nodes}`. It is tried once. */
  async publish(organization, group, event) {
    const { results } = await this.#post('publish', { organization_id: organization, group, event }, 1);
    return { nodes: results[0].nodes };
  }

  /**
   * The same, and keeps the event in the group's history. Resolves to `{id, nodes, repeated}`; `repeated` says that the
   * idempotency key has been used before and nothing was published.
   */
  async record(organization, group, event, idempotencyKey = randomUUID()) {
    const publication = { organization_id: organization, group, event, record: true, idempotency_key: idempotencyKey };
    const { results } = await this.#post('publish', publication, ATTEMPTS);
    const { id, nodes = 0, repeated = false } = results[0];
    return { id, nodes, repeated };
  }

  /** Ends the right to be connected: `{type: 'user.disabled', user_id: 'ada'}`. Resolves to `revoked` or `announced`. */
  async revoke(message) {
    return (await this.#post('revoke', message, ATTEMPTS)).status;
  }

  async #post(call, body, attempts) {
    const text = JSON.stringify(body);
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#try(call, text);
      } catch (error) {
        if (attempt >= attempts || (error.status > 0 && error.status < 500)) throw error;
        await pause(100 * 2 ** attempt * (0.5 + Math.random()));
      }
    }
  }

  async #try(call, body) {
    let status = 0;
    let text;
    try {
      const signal = AbortSignal.timeout(this.#timeout);
      const options = { method: 'POST', headers: this.#headers, body, redirect: 'manual', signal };
      const response = await fetch(`${this.#url}/v1/${call}`, options);
      status = response.status;
      text = await response.text();
    } catch (cause) {
      throw new OrgcastError(call, 0, 'unreachable', { cause });
    }
    let answer;
    try {
      answer = JSON.parse(text);
    } catch {
      // answer stays undefined
    }
    const result = answer?.results ? answer.results[0] : answer;
    if (status === 200 && ['published', 'revoked', 'announced'].includes(result?.status)) return answer;
    throw new OrgcastError(call, status, typeof result?.code === 'string' ? result.code : 'bad_answer');
  }
}

/** The name of a user's own group. */
export function userGroup(user) {
  if (!user) throw new TypeError('orgcast: the user id is empty');
  if (ID.test(user)) return `user.${user}`;
  return `user..${createHash('sha256').update(user).digest('base64url')}`;
}

/** The token with which a page may subscribe to a group until `expires`, in Unix seconds. `key` is --signing-key. */
export function signGroup(key, organization, group, expires) {
  if (Buffer.byteLength(key) < 32) throw new TypeError('orgcast: the signing key must have at least 32 bytes');
  if (!ID.test(organization)) throw new TypeError('orgcast: invalid organization');
  if (!/^[A-Za-z0-9_.-]{1,100}$/.test(group)) throw new TypeError('orgcast: invalid group');
  if (!Number.isInteger(expires) || expires < 1 || expires >= 1e11) throw new TypeError('orgcast: expires must be Unix seconds');
  const text = `orgcast.v1.group\n${organization}\n${group}\n${expires}`;
  return `${expires}.${createHmac('sha256', key).update(text).digest('hex')}`;
}
