// The copy button: hidden until it works, since the text can be selected without it.
"use strict";

// Browsers keep navigator.clipboard for https and localhost; a mirror in an office is often neither.
async function copy(pre) {
  if (navigator.clipboard) return navigator.clipboard.writeText(pre.textContent);
  getSelection().selectAllChildren(pre);
  if (!document.execCommand("copy")) throw new Error("refused");
}

for (const button of document.querySelectorAll("button.copy")) {
  const label = button.firstChild;
  button.setAttribute("aria-live", "polite");
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await copy(button.parentElement.querySelector("pre"));
      label.data = "Copied";
    } catch {
      label.data = "Select and copy";
    }
    setTimeout(() => { label.data = "Copy"; }, 2000);
  });
}
