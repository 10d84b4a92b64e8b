// Sends for the next part of a long work as soon as the page of the last one is here. Without this script the button does.
"use strict";

addEventListener("pageshow", (event) => {
  // Who comes back with the browser's own button begins nothing.
  if (!event.persisted) document.getElementById("go-on").requestSubmit();
});
