// A proxy in front of a site, as docs/deploy.md wants it.

import { createServer, request as forward } from 'node:http';
import { connect } from 'node:net';

/**
 * Starts a proxy and returns its port: sockets and streams go to the port that sockets() returns, everything else to the site.
 * Files are scripts that it has itself, by their paths.
 */
export async function proxy(workshop, site, sockets, files = {}) {
  const server = createServer((incoming, outgoing) => {
    if (Object.hasOwn(files, incoming.url)) {
      outgoing.writeHead(200, { 'Content-Type': 'text/javascript; charset=utf-8' });
      outgoing.end(files[incoming.url]);
      return;
    }
    const port = incoming.url.startsWith('/sse/') ? sockets() : site;
    const upstream = forward({ host: '127.0.0.1', port, method: incoming.method, path: incoming.url, headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    upstream.on('error', () => outgoing.destroy());
    outgoing.on('close', () => upstream.destroy());
    incoming.pipe(upstream);
  });
  server.on('upgrade', (incoming, client) => {
    const upstream = connect(sockets(), '127.0.0.1');
    const lines = [`${incoming.method} ${incoming.url} HTTP/1.1`];
    for (let i = 0; i < incoming.rawHeaders.length; i += 2) lines.push(`${incoming.rawHeaders[i]}: ${incoming.rawHeaders[i + 1]}`);
    upstream.write(`${lines.join('\r\n')}\r\n\r\n`);
    for (const socket of [client, upstream]) socket.on('error', () => { client.destroy(); upstream.destroy(); });
    for (const [one, other] of [[client, upstream], [upstream, client]]) one.on('close', () => other.destroy());
    client.pipe(upstream).pipe(client);
  });
  return workshop.listen(server);
}
