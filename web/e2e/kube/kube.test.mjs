// What the Helm chart makes, for real, as far as that goes without a cluster: podman runs two pods of it
// behind HAProxy, and the test does what Kubernetes would do in a rollout. `make test-kube` prepares it.
//
// podman 4.3 knows no Deployments that roll out, no readiness probes, no preStop hooks and no projected
// volumes, and takes no annotation with a checksum. This file replaces them; the chart stays as it is.

import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect as dial } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort, PATIENCE_MS, root, Workshop } from '../gateway.js';

const { HELM, IMAGE } = process.env;
const [repository, tag] = IMAGE.split(':');
const network = 'orgcastkube';
const workshop = new Workshop();
const exec = promisify(execFile);
const logs = (name) => execFileSync('/bin/sh', ['-c', 'podman logs "$0" 2>&1', name], { encoding: 'utf8' });
const podman = (...args) => execFileSync('podman', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();

let host; // our address in the pods' network
let redis;
let origin; // of the site, and of the gateway behind the same proxy
let proxy; // socket of HAProxy
let template; // the pod of the chart's Deployment
let configMap;

before(async () => {
  podman('network', 'create', network);
  workshop.onClose(() => podman('network', 'rm', '-f', network));
  host = JSON.parse(podman('network', 'inspect', network))[0].subnets[0].gateway;
  // The bridge, and so our address on it, exists only while a container does.
  podman('run', '-d', '--name', 'holder', '--network', network, IMAGE, 'serve', '--listen=:8080', '--session-store=redis', '--origins=https://app.example.com');
  workshop.onClose(() => podman('rm', '-f', '-t', '0', 'holder'));

  const redisPort = await freePort();
  redis = `redis://${host}:${redisPort}/0`;
  await workshop.run('redis-server', ['--port', String(redisPort), '--bind', host, '--protected-mode', 'no', '--save', '', '--dir', workshop.dir],
    (output) => output.includes('Ready to accept connections'));
  const port = await freePort();
  origin = `http://127.0.0.1:${port}`;
  await behindHAProxy(port, await site());
  render();
});
after(() => workshop.close());

/** The site: a page, and the client. */
async function site() {
  return workshop.listen(createServer((request, response) => {
    const script = request.url === '/orgcast.js';
    response.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
    response.end(script ? readFileSync(join(root, 'web/demo/orgcast.js')) : '<!doctype html><title>site</title>');
  }));
}

/** HAProxy as in docs/deploy.md, with places for pods that come and go. Whether one is ready, says the kubelet, and so the test. */
async function behindHAProxy(port, sitePort) {
  proxy = join(workshop.dir, 'haproxy.sock');
  const file = join(workshop.dir, 'haproxy.cfg');
  writeFileSync(file, `
global
    stats socket ${proxy} mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 90s
frontend web
    bind 127.0.0.1:${port}
    use_backend orgcast if { path_beg /ws/ /sse/ }
    default_backend site
backend site
    server site 127.0.0.1:${sitePort}
backend orgcast
    balance leastconn
    server-template pod 4 ${host}:1 disabled
`);
  // It prints nothing when it is ready.
  await workshop.run('/bin/sh', ['-c', 'echo begun; exec /usr/sbin/haproxy -db -f "$0"', file], (output) => output.includes('begun'));
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await command('show info').catch(() => '')).includes('Uptime')) assert.ok(Date.now() < deadline, 'HAProxy is not ready');
}

/** Gives HAProxy a command, as a controller does when endpoints change. */
function command(line) {
  return new Promise((resolve, reject) => {
    const socket = dial(proxy, () => socket.end(`${line}\n`));
    let answer = '';
    socket.on('data', (chunk) => { answer += chunk; });
    socket.on('close', () => resolve(answer.trim()));
    socket.on('error', reject);
  });
}

/** Renders the chart. */
function render() {
  const values = join(workshop.dir, 'values.json');
  writeFileSync(values, JSON.stringify({
    image: { repository, tag },
    preStopSeconds: 2,
    config: { origins: [origin], redis, 'session-store': 'redis', directory: 'session', 'drain-wait': '1s', drain: '4s' },
    secrets: { 'admin-key': { secret: 'orgcast', key: 'admin-key' } },
    resources: { requests: { cpu: '100m', memory: '64Mi' }, limits: { memory: '128Mi' } },
  }));
  const yaml = execFileSync(HELM, ['template', 'orgcast', join(root, 'deploy/helm/orgcast'), '--kube-version', '1.30', '--values', values], { stdio: 'pipe' });
  const documents = JSON.parse(execFileSync('/usr/bin/python3', ['-c',
    'import json, sys, yaml; json.dump([d for d in yaml.safe_load_all(sys.stdin) if d], sys.stdout)'], { input: yaml }));
  const kind = (name) => documents.find((one) => one.kind === name);
  configMap = kind('ConfigMap');
  template = kind('Deployment').spec.template;
  mkdirSync(join(workshop.dir, 'secrets'));
  writeFileSync(join(workshop.dir, 'secrets/admin-key'), 'k'.repeat(32));
}

/** Asks a path of a probe from outside the pod's network, as a kubelet does; returns the status, 0 without an answer. */
async function probe(address, { httpGet }) {
  const { ports } = template.spec.containers[0];
  const port = ports.find(({ name }) => name === httpGet.port).containerPort;
  try {
    return (await fetch(`http://${address}:${port}${httpGet.path}`, { signal: AbortSignal.timeout(3_000) })).status;
  } catch {
    return 0;
  }
}

/** Starts a pod in a place of HAProxy, and waits until it is ready. */
async function startPod(place) {
  const name = `gw${place}`;
  const pod = structuredClone({ apiVersion: 'v1', kind: 'Pod', metadata: { name, labels: template.metadata.labels }, spec: template.spec });
  const [container] = pod.spec.containers;
  // It would publish ports of containers on this machine.
  for (const unknown of ['readinessProbe', 'livenessProbe', 'lifecycle', 'ports']) delete container[unknown];
  for (const unknown of ['topologySpreadConstraints', 'serviceAccountName']) delete pod.spec[unknown];
  for (const volume of pod.spec.volumes) {
    if (!volume.projected) continue;
    delete volume.projected;
    volume.hostPath = { path: join(workshop.dir, volume.name), type: 'Directory' };
  }
  const file = join(workshop.dir, `${name}.yaml`);
  const map = structuredClone(configMap);
  writeFileSync(file, `${JSON.stringify(map)}\n---\n${JSON.stringify(pod)}\n`); // JSON is YAML
  podman('play', 'kube', '--network', network, file);
  workshop.onClose(() => { try { podman('pod', 'rm', '-f', '-t', '0', name); } catch { /* it is gone */ } });
  const infra = podman('pod', 'inspect', '--format', '{{.InfraContainerID}}', name);
  const address = podman('inspect', '--format', `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`, infra);
  const { readinessProbe, livenessProbe } = template.spec.containers[0];
  const deadline = Date.now() + PATIENCE_MS;
  while (await probe(address, readinessProbe) !== 200) {
    assert.ok(Date.now() < deadline, `${name} is not ready:\n${logs(`${name}-gateway`)}`);
    await sleep(200);
  }
  assert.equal(await probe(address, livenessProbe), 200, 'liveness');
  await command(`set server orgcast/pod${place} addr ${address} port 8080`);
  await command(`set server orgcast/pod${place} state ready`);
  return { name, place, address };
}

/** Stops a pod as a kubelet does, while its address leaves the balancer. */
async function stopPod({ name, place, address }) {
  const { lifecycle, readinessProbe } = template.spec.containers[0];
  await command(`set server orgcast/pod${place} state drain`);
  await sleep(lifecycle.preStop.sleep.seconds * 1000);
  const stopping = exec('podman', ['pod', 'stop', '-t', String(template.spec.terminationGracePeriodSeconds), name]);
  const deadline = Date.now() + PATIENCE_MS;
  while (await probe(address, readinessProbe) === 200) assert.ok(Date.now() < deadline, `${name} stays ready`);
  await stopping;
  assert.equal(podman('inspect', '--format', '{{.State.ExitCode}}', `${name}-gateway`), '0', `${name}: exit code`);
  await command(`set server orgcast/pod${place} state maint`);
}

/** A page with the client, which notes what it hears. */
async function page(browser) {
  const context = await browser.newContext();
  const [, cookie] = execFileSync(workshop.binary, ['session', 'mint', '--redis', redis, '--session-store', 'redis', 'ada', 'acme'], { encoding: 'utf8' })
    .match(/orgcast_session=([^;\s]+)/);
  await context.addCookies([{ name: 'orgcast_session', value: cookie, url: origin }]);
  const opened = await context.newPage();
  await opened.goto(origin);
  await opened.evaluate(async () => {
    const { connect } = await import('/orgcast.js');
    window.texts = [];
    window.others = [];
    window.sockets = 0;
    window.client = connect('/ws/events');
    window.statuses = [];
    client.onStatus((status) => {
      if (status.state === 'open') sockets++;
      statuses.push(`${(performance.now() / 1000).toFixed(1)} s: ${status.state} ${status.code ?? ''}`);
    });
    client.on('note', ({ text }) => texts.push(text));
    for (const type of ['gap', 'error']) client.on(type, (frame) => others.push(frame));
    await new Promise((resolve) => { client.on('subscribed', resolve); client.subscribe('room.1'); });
  });
  return opened;
}

test('a rollout loses no recorded event', async (t) => {
  const old = [await startPod(1), await startPod(2)];
  const confined = readFileSync(`/proc/${podman('inspect', '--format', '{{.State.Pid}}', 'gw1-gateway')}/status`, 'utf8').replaceAll('\t', ' ');
  for (const line of ['Uid: 65532 65532', 'CapEff: 0000000000000000', 'CapBnd: 0000000000000000', 'NoNewPrivs: 1', 'Seccomp: 2']) {
    assert.ok(confined.includes(line), `the pod's process: want ${line}, got\n${confined}`);
  }
  const browser = await workshop.browser();
  const pages = [];
  for (let i = 0; i < 4; i++) pages.push(await page(browser));

  const recorded = [];
  let going = true;
  const publishing = (async () => {
    while (going) {
      const text = String(recorded.length);
      await exec(workshop.binary, ['publish', '--redis', redis, '--record', 'acme', 'room.1', JSON.stringify({ type: 'note', text })]);
      recorded.push(text);
      await sleep(50); // a history keeps 1,000 events, and this machine may be slow
    }
  })();
  try {
    for (const [i, pod] of old.entries()) {
      await startPod(3 + i);
      await stopPod(pod);
    }
    for (const one of pages) await one.waitForFunction(() => sockets > 1, null, { timeout: PATIENCE_MS });
  } finally {
    going = false;
    await publishing;
  }
  for (const one of pages) {
    await one.waitForFunction((last) => texts.at(-1) === last, recorded.at(-1), { timeout: PATIENCE_MS });
    const [texts, others, statuses] = await one.evaluate(() => [window.texts, window.others, window.statuses]);
    assert.deepEqual(others, [], statuses.join('\n'));
    assert.deepEqual(texts, recorded, `${texts.length} of ${recorded.length}\n${statuses.join('\n')}`);
  }
  const sockets = await Promise.all(pages.map((one) => one.evaluate(() => sockets)));
  t.diagnostic(`${recorded.length} recorded events, each received once and in order by ${pages.length} pages, which opened ${sockets} sockets`);
});

test('the private listener must be on the address of the pod', async () => {
  // holder has the listener of the image, which is the same as the chart's; this one has the default of the gateway.
  podman('run', '-d', '--name', 'loopback', '--network', network, IMAGE, 'serve', '--listen=:8080', '--admin-listen=127.0.0.1:9090', '--session-store=redis', '--origins=https://app.example.com');
  workshop.onClose(() => podman('rm', '-f', '-t', '0', 'loopback'));
  const address = (name) => podman('inspect', '--format', `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`, name);
  const { livenessProbe } = template.spec.containers[0];
  const deadline = Date.now() + PATIENCE_MS;
  while (await probe(address('holder'), livenessProbe) !== 200) assert.ok(Date.now() < deadline, 'the control does not answer');
  while (!logs('loopback').includes('"serving"')) assert.ok(Date.now() < deadline, 'the other does not start');
  assert.equal(await probe(address('loopback'), livenessProbe), 0);
});
