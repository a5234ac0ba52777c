// Small helpers: elements without markup in strings, lists that keep their elements, and figures.

/** Returns an element. Properties that begin with "on" are listeners; children are elements or text. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'value') element.value = value;
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Sets a text only if it differs, so that screen readers and selections are left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows rows in a parent. A row with the same key keeps its element, and with it the focus. */
export function show(parent, rows, key, build, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const row of rows) {
    const name = key(row);
    let element = before.get(name);
    if (element) before.delete(name);
    else {
      element = build(row);
      element.dataset.key = name;
    }
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
    update?.(element, row);
  }
  for (const gone of before.values()) gone.remove();
}

/**
 * Returns a table with a body to fill: columns are {name, of(row), number}, where of returns text or an element's
 * text. On narrow screens each row is a card, so every cell knows the name of its column.
 */
export function table(caption, columns, { key, action, empty }) {
  const body = h('tbody', { role: 'rowgroup' });
  const none = h('p', { class: 'empty' }, empty);
  const names = columns.map(({ name, number }) => h('th', { scope: 'col', role: 'columnheader', class: number && 'number' }, name));
  if (action) names.push(h('th', { scope: 'col', role: 'columnheader' }, h('span', { class: 'hidden' }, 'Actions')));
  const whole = h('table', { role: 'table', hidden: true }, h('caption', { class: 'hidden' }, caption), h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, ...names)), body);
  const build = (row) => {
    const cells = columns.map(({ name, number }, i) => h(i ? 'td' : 'th', { scope: i ? undefined : 'row', role: i ? 'cell' : 'rowheader', 'data-label': name, class: number && 'number' }));
    if (action) cells.push(h('td', { class: 'action', role: 'cell' }));
    return h('tr', { role: 'row' }, ...cells); // a table that is laid out as cards is one only by its roles
  };
  const update = (element, row) => {
    columns.forEach(({ of }, i) => say(element.children[i], of(row)));
    if (!action) return;
    const cell = element.lastElementChild;
    if (!cell.firstChild) {
      const made = action(() => element.row);
      if (made) cell.append(made);
    }
    element.row = row;
    cell.firstChild?.refresh?.(row);
  };
  const fill = (rows) => {
    whole.hidden = rows.length === 0;
    none.hidden = !whole.hidden;
    show(body, rows, key, build, update);
  };
  return { element: h('div', { class: 'table' }, whole, none), fill };
}

const plain = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

export const figure = (n) => plain.format(n ?? 0);

export function bytes(n) {
  let unit = 0;
  for (n ??= 0; n >= 1024 && unit < 4; unit++) n /= 1024;
  return `${plain.format(n)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][unit]}`;
}

export function seconds(n) {
  if (!n) return '0 s';
  return n < 1 ? `${Math.max(1, Math.round(n * 1000))} ms` : `${plain.format(n)} s`;
}

/** The time since a moment, in words. */
export function ago(text) {
  const passed = Math.max(0, (Date.now() - Date.parse(text)) / 1000);
  if (Number.isNaN(passed)) return 'unknown';
  if (passed < 60) return `${Math.floor(passed)} s ago`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 172800) return `${Math.floor(passed / 3600)} h ago`;
  return `${Math.floor(passed / 86400)} days ago`;
}

export const clock = (text) => new Date(text).toLocaleString([], { dateStyle: 'short', timeStyle: 'medium' });
