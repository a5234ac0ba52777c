// Small tools to make elements. Text goes in as text, never as HTML.

/** Makes an element: el('p.hint', 'text', child…). */
export function el(spec, ...children) {
  const [tag, ...classes] = spec.split('.');
  const element = document.createElement(tag);
  if (classes.length > 0) element.className = classes.join(' ');
  element.append(...children);
  return element;
}

/** Milliseconds for people: short ones with a decimal. */
export function milliseconds(ms) {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

let pending = '';

/** Says a sentence to screen readers; sentences of one moment are said together. */
export function announce(sentence) {
  if (pending === '') {
    setTimeout(() => {
      document.getElementById('announcer').textContent = pending;
      pending = '';
    }, 300);
  }
  pending += `${sentence} `;
}
