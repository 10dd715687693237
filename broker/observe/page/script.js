"use strict";
(() => {
  const note = document.getElementById("note");
  const pause = () => setTimeout(update, document.hidden ? 10000 : 2000);
  const show = (page) => {
    if (page.shape !== document.documentElement.dataset.shape) {
      location.reload();
      return;
    }
    document.querySelectorAll("[data-cell]").forEach((cell) => {
      cell.textContent = page.cells[cell.dataset.cell];
    });
    note.textContent = "";
  };
  const update = async () => {
    try {
      const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(8000) });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      show((await answer.json()).page);
    } catch (error) {
      note.textContent = `The broker does not answer; these figures are old (${error.message}).`;
    }
    pause();
  };
  pause();
})();
