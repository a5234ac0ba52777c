// Draws the diagrams of a page, light or dark as the page is.
(() => {
  const blocks = [...document.querySelectorAll('pre.diagram')];
  const texts = blocks.map((block) => block.textContent);
  async function draw() {
    const dark = document.body.getAttribute('data-md-color-scheme') === 'slate';
    window.mermaid.initialize({ startOnLoad: false, theme: dark ? 'dark' : 'default', securityLevel: 'strict', fontFamily: 'sans-serif' });
    for (const [i, block] of blocks.entries()) {
      const { svg } = await window.mermaid.render(`diagram-${i}`, texts[i]);
      block.innerHTML = svg;
      block.dataset.drawn = dark ? 'dark' : 'light';
    }
  }
  new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ['data-md-color-scheme'] });
  draw();
})();
