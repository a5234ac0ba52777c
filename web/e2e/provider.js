// An identity provider: its keys, and its tokens.

import { generateKeyPairSync, sign } from 'node:crypto';
import { createServer } from 'node:http';

/** Starts one. Its tokens are of organization acme, and last for some seconds. */
export async function provider(workshop) {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const keys = JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256', use: 'sig' }] });
  const url = `http://127.0.0.1:${await workshop.listen(createServer((_, response) => response.end(keys)))}/keys`;
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const token = (user, seconds) => {
    const claims = { iss: 'https://id.test/', aud: 'pages', sub: user, org_id: 'acme', exp: Math.floor(Date.now() / 1_000) + seconds, sid: `s-${user}` };
    const text = `${part({ alg: 'ES256', kid: 'one' })}.${part(claims)}`;
    return `${text}.${sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
  };
  const settings = ['--session-store', 'jwt', '--jwt-jwks-url', url, '--jwt-issuer', 'https://id.test/', '--jwt-audience', 'pages'];
  return { settings, token };
}
