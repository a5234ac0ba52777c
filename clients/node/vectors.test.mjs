// Makes the calls of ../vectors.json. clients_test.go starts it, with a gateway behind $ORGCAST_TEST_FRONT.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Orgcast, OrgcastError, signGroup, userGroup } from './orgcast.mjs';

const vectors = JSON.parse(readFileSync(new URL('../vectors.json', import.meta.url), 'utf8'));
const { ORGCAST_TEST_FRONT: front, ORGCAST_TEST_KEY: key } = process.env;

for (const { user, group } of vectors.user_group) assert.equal(userGroup(user), group);
assert.throws(() => userGroup(''), TypeError);
for (const v of vectors.sign_group) assert.equal(signGroup(v.key, v.organization, v.group, v.expires), v.token);
for (const v of vectors.sign_group_refused) {
  assert.throws(() => signGroup(v.key, v.organization, v.group, v.expires), TypeError, JSON.stringify(v));
}
assert.throws(() => new Orgcast(front, ''), TypeError);

function make(vector) {
  const url = vector.through === 'nowhere' ? 'http://127.0.0.1:1' : `${front}/${vector.through ?? 'direct'}`;
  const client = new Orgcast(url, vector.key ?? key, { timeout: vector.through === 'silent' ? 300 : 60_000 });
  const group = vector.user ? userGroup(vector.user) : vector.group;
  switch (vector.call) {
    case 'publish':
      return client.publish(vector.organization, group, vector.event);
    case 'record':
      return client.record(vector.organization, group, vector.event, vector.idempotency_key);
    case 'revoke':
      return client.revoke(vector.message);
    default:
      throw new Error(`unknown call ${vector.call}`);
  }
}

const ids = new Map(); // label → organization and position
for (const vector of vectors.calls) {
  const about = JSON.stringify(vector);
  if (vector.error) {
    await assert.rejects(make(vector), (error) => {
      assert.ok(error instanceof OrgcastError, about);
      assert.deepEqual({ status: error.status, code: error.code }, vector.error, about);
      return true;
    }, about);
    continue;
  }
  const got = await make(vector);
  const label = vector.want.id;
  if (label) {
    const place = `${vector.organization} ${got.id}`;
    if (!ids.has(label)) {
      assert.match(got.id, /^\d+-\d+$/);
      assert.ok(![...ids.values()].includes(place), about);
      ids.set(label, place);
    }
    vector.want.id = ids.get(label).split(' ')[1];
  }
  assert.deepEqual(got, vector.want, about);
}
