// Formulas between $ and $$, in the notebooks as in the pages.
window.MathJax = { tex: { inlineMath: [["$", "$"], ["\\(", "\\)"]], displayMath: [["$$", "$$"]] }, options: { skipHtmlTags: ["script", "style", "pre", "code", "textarea"] } };
