// The copy button: shown only where it works, since the text can be selected without it.
"use strict";
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("button.copy")) {
    const label = button.firstChild;
    const text = button.parentElement.querySelector("pre").textContent;
    button.setAttribute("aria-live", "polite");
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        label.data = "Copied";
      } catch {
        label.data = "Not copied";
      }
      setTimeout(() => { label.data = "Copy"; }, 2000);
    });
  }
}
