// A second press would find the link used. Without this script the page that says so helps on.
addEventListener("submit", (event) => {
  if (event.target.dataset.pressed) event.preventDefault();
  event.target.dataset.pressed = "yes";
  event.submitter?.setAttribute("aria-busy", "true");
});
// Who comes back with the browser's own button may press again.
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.pressed;
  for (const button of document.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
});
