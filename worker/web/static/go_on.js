// Sends for the next part of a long work as soon as the page of the last one is here. Without this script the button does.
"use strict";

document.getElementById("go-on").requestSubmit();
