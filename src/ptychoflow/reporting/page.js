// Viewer of a scan: a tab for each quantity, and a slider between any two objects.
for (const viewer of document.querySelectorAll(".viewer")) {
  const all = (selector) => [...viewer.querySelectorAll(selector)];
  const first = (selector) => viewer.querySelector(selector);
  const [left, right, range] = [first(".left"), first(".right"), first("input")];
  let kind = first(".kind").dataset.kind;

  const tiles = () => all(`.kind[data-kind="${kind}"] .tile`);
  const source = (select) => (tiles().find((tile) => tile.dataset.view === select.value) ?? tiles()[0]).querySelector("img").src;

  function slide() {
    first(".over").style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
    first(".handle").style.left = `${range.value}%`;
  }

  function show() {
    const known = tiles().map((tile) => tile.dataset.view);
    for (const select of [left, right]) {
      for (const option of select.options) option.disabled = !known.includes(option.value);
      if (select.selectedOptions[0].disabled) select.value = known.at(select === left ? 0 : -1);
    }
    first(".over").src = source(left);
    first(".under").src = source(right);
    for (const part of all(".kind")) part.hidden = part.dataset.kind !== kind;
    for (const tile of tiles()) tile.classList.toggle("shown", [left.value, right.value].includes(tile.dataset.view));
    for (const tab of all(".tabs button")) tab.setAttribute("aria-selected", tab.dataset.kind === kind);
    slide();
  }

  if (tiles().length > 1) {
    const truth = [...right.options].some((option) => option.value === "truth");
    left.selectedIndex = Math.min(truth ? 1 : 0, left.options.length - 1);
    right.selectedIndex = truth ? right.options.length - 1 : 1;
    first(".compare").hidden = false;
    viewer.classList.add("ready");
    range.addEventListener("input", slide);
    for (const select of [left, right]) select.addEventListener("change", show);
    for (const tab of all(".tabs button")) tab.addEventListener("click", () => { kind = tab.dataset.kind; show(); });
    for (const tile of all(".tile")) {
      tile.title = "click: show on the left; with shift: on the right";
      tile.addEventListener("click", (event) => { (event.shiftKey ? right : left).value = tile.dataset.view; show(); });
    }
    show();
  }
}
