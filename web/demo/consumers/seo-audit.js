// SEO audit: pages and issues as they are found, as /ws/seo_audit/INT/ tells them.

import { el } from '../dom.js';
import { openPage } from './page.js';
import { setBar, setFacts, words } from './show.js';

const MAX_PAGES = 12;

class Audit {
  constructor(panel) {
    this.panel = panel;
    panel.part('.url').value = '/';
    panel.onSubmit('.start', () => this.start(false));
    panel.onClick('.state-again', () => panel.send({ type: 'get_status' }));
  }

  async start(alone, id) {
    const started = await this.panel.start('seo_audit', { url: this.panel.part('.url').value, max_pages: MAX_PAGES, id });
    if (started) this.panel.follow(started.id, alone);
    return started?.id;
  }

  reset() {
    this.#show({ status: '', progress: 0, pages_analyzed: 0, issues_found: 0, recent_issues: [] });
    this.#results(null);
  }

  frame(frame) {
    const { data } = frame;
    switch (frame.type) {
      case 'audit.status':
        this.#show(data);
        this.#results(data.results);
        if (data.error) this.panel.problem(`The audit failed: ${data.error}.`);
        break;
      case 'audit.update':
        this.#show({ ...data, progress: data.percent_complete });
        this.#results(null);
        break;
      case 'audit.complete':
        this.#show({ status: data.status, progress: 100 });
        this.#results(data.results);
        break;
      case 'audit.error':
        this.panel.status('failed');
        this.panel.problem(`The audit failed: ${frame.message} (${frame.code}).`);
        break;
      case 'task_failed':
        this.panel.status('failed');
        this.panel.problem(`The audit failed (${frame.code}).`);
        break;
    }
  }

  #show({ status, progress, pages_analyzed: pages, issues_found: issues, recent_issues: recent }) {
    if (status) this.panel.status(status);
    if (progress !== undefined) setBar(this.panel.part('progress'), progress);
    if (pages !== undefined) this.panel.part('.pages').textContent = pages;
    if (issues !== undefined) this.panel.part('.issues').textContent = issues;
    if (recent) this.#issues('Recent issues', recent);
  }

  #results(results) {
    const { score, by_severity: severity, pages_analyzed: pages } = Object(results?.summary);
    setFacts(this.panel.part('.summary'), { score, ...severity });
    if (!results) return;
    if (pages !== undefined) this.panel.part('.pages').textContent = pages;
    this.#issues('All issues', results.issues ?? []);
    this.panel.part('.issues').textContent = results.issues?.length ?? 0;
  }

  #issues(title, issues) {
    this.panel.part('.issues-title').textContent = title;
    this.panel.part('.recent').replaceChildren(...issues.map((issue) => {
      const { url, severity } = Object(issue);
      return el('li', el('span.what', words(issue)), ...(severity ? [el('span.tag', severity)] : []), ...(url ? [el('code', String(url).replace(location.origin, ''))] : []));
    }));
    this.panel.part('.empty').hidden = issues.length > 0;
  }
}

openPage({
  subject: {
    label: 'Audit number', id: '7', valid: /^[1-9][0-9]{0,8}$/, hint: 'a number from 1 on',
  },
  path: (id) => `/ws/seo_audit/${id}/`,
  group: (id) => `audit_${id}`,
  view: (panel) => new Audit(panel),
  both: 'Audit on both sides',
});
