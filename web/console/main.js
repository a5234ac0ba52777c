// The page has two scopes: operators, on the private listener, and the administrators of one
// organization, on the public one. Which one it is, the server wrote into the page.

import { operators } from './operators.js';
import { organization } from './organization.js';
import { say } from './dom.js';

const REFRESH_MS = 5000;
const main = document.getElementById('main');
const state = document.getElementById('state');
const pause = document.getElementById('pause');
const leave = document.getElementById('leave');

let refreshing = false;
let timer;

/** Refreshes the view, now and again every few seconds while the page is visible and not paused. */
async function refresh() {
  clearTimeout(timer);
  if (refreshing) return;
  refreshing = true;
  try {
    await view.refresh();
    say(state, `Updated at ${new Date().toLocaleTimeString()}`);
    delete state.dataset.problem;
    pause.hidden = false;
    leave.hidden = !view.keyHeld?.();
  } catch (problem) {
    if (problem.code === undefined) throw problem; // a fault of this page
    say(state, problem.message);
    state.dataset.problem = problem.code;
    view.refused?.(problem);
  } finally {
    refreshing = false;
    if (!document.hidden && pause.getAttribute('aria-pressed') === 'false') timer = setTimeout(refresh, REFRESH_MS);
  }
}

const view = (document.documentElement.dataset.scope === 'operators' ? operators : organization)({ main, refresh });

pause.addEventListener('click', () => {
  const paused = pause.getAttribute('aria-pressed') === 'false';
  pause.setAttribute('aria-pressed', String(paused));
  if (paused) clearTimeout(timer);
  else refresh();
});
leave.addEventListener('click', () => {
  view.forget();
  leave.hidden = true;
  refresh();
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && pause.getAttribute('aria-pressed') === 'false') refresh();
});
refresh();
