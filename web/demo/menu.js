// The menu stands in every page, the same in all of them, so that a person who follows links finds the
// pages without a script. This marks the page that is open, and lets the list open on small screens.

export function setUpMenu() {
  for (const link of document.querySelectorAll('.menu a')) {
    if (link.pathname === location.pathname) link.setAttribute('aria-current', 'page');
  }
  const button = document.querySelector('.menu-button');
  button.addEventListener('click', () => {
    button.setAttribute('aria-expanded', String(button.getAttribute('aria-expanded') === 'false'));
  });
  document.querySelector('.menu').addEventListener('keydown', ({ key }) => {
    if (key !== 'Escape' || button.getAttribute('aria-expanded') === 'false') return;
    button.setAttribute('aria-expanded', 'false');
    button.focus();
  });
}
