// What a reader does with the explorer of a report, which lies in a frame, and what is seen then.
const wait = async (until) => { for (let k = 0; k < 100 && !until(); k++) await new Promise((done) => setTimeout(done, 10)); };
async function explore(page) {
  try {
    document.getElementById("seen").textContent = JSON.stringify(await seenBy(page));
  } catch (error) {
    document.getElementById("seen").textContent = JSON.stringify({ error: String(error.stack) });
  }
}

async function seenBy(page) {
  const find = (selector) => page.document.querySelector(`.explorer ${selector}`);
  const node = page.document.querySelector(".explorer"), seen = {};
  const pick = (selector, value) => { find(selector).value = value; find(selector).dispatchEvent(new page.Event("change")); };
  // without a window no frame is asked for: the section counts as far away, and drawing waits
  const explorer = page.eval('new Explorer(document.querySelector(".explorer"))');
  await explorer.ready;
  const settle = async (act) => { await act(); await explorer.ready; explorer.drawNow(); };
  await settle(() => pick(".second", 1));
  seen.panes = node.querySelectorAll(".pane:not([hidden])").length;
  const scale = () => Object.values(explorer.views)[0].scale, fitted = scale();
  await settle(() => find(".pane").dispatchEvent(new page.KeyboardEvent("keydown", { key: "+" })));
  seen.zoomed = scale() / fitted;
  const box = find(".marks").getBoundingClientRect();
  const point = (type, x, y) => find(".marks").dispatchEvent(new page.PointerEvent(type, { clientX: box.left + x * box.width, clientY: box.top + y * box.height, pointerId: 1 }));
  point("pointermove", 0.5, 0.5);
  seen.readout = find(".readout").textContent;
  await settle(() => { point("pointerdown", 0.5, 0.5); point("pointerup", 0.5, 0.5); });
  await wait(() => !find(".browsed").hidden);
  seen.browsed = find(".browsed").textContent;
  find(".pane").dispatchEvent(new page.KeyboardEvent("keydown", { key: "l" }));
  point("pointerdown", 0.4, 0.5); point("pointermove", 0.6, 0.5); point("pointerup", 0.6, 0.5);
  seen.profile = find(".profile").querySelectorAll("path[stroke-width]").length;
  await settle(() => pick(".quantity", "complex"));
  const wheel = find(".key").classList.contains("wheel");
  await settle(() => pick(".quantity", "amplitude"));
  seen.wheel = wheel && !find(".key").classList.contains("wheel");
  const text = async (blob) => btoa([...new Uint8Array(await blob.arrayBuffer())].map((byte) => String.fromCharCode(byte)).join(""));
  seen.npy = await text(page.npy(explorer.values(), explorer.shown[0].shape, "<f4"));
  seen.tiff = await text(page.tiff(explorer.values(), explorer.shown[0].shape));
  const ink = find(".picture").getContext("2d").getImageData(0, 0, 400, 300).data;
  seen.colours = new Set(new Uint32Array(ink.buffer)).size;
  return seen;
}
