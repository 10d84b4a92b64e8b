// One box chooses all that can be chosen on this page, and shows whether they are.
"use strict";

addEventListener("change", (event) => {
  const all = document.getElementById("choose-all");
  if (!all || !event.target.closest(".pick")) return;
  const boxes = [...document.querySelectorAll('td.pick input[type="checkbox"]')];
  if (event.target === all) for (const box of boxes) box.checked = all.checked;
  const chosen = boxes.filter((box) => box.checked).length;
  all.checked = chosen > 0 && chosen === boxes.length;
  all.indeterminate = chosen > 0 && chosen < boxes.length;
});
