/**
 * Layers: shows the panel of one step, and of the pictures of modules those of one type.
 */

export function createLayers() {
  const controls = document.getElementById("layers-controls");
  if (!controls) return;
  choose("layers-step", ".layers-at", "step");
  choose("layers-type", ".of-type", "type");
  controls.hidden = false;
}

/**
 * Of all elements that match, those whose data equals the value of the selector are there.
 *
 * @param {string} id
 * @param {string} selector
 * @param {string} name
 */
function choose(id, selector, name) {
  const select = /** @type {HTMLSelectElement | null} */ (document.getElementById(id));
  if (!select) return;
  const show = () => {
    for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(selector))) each.hidden = each.dataset[name] !== select.value;
  };
  select.addEventListener("change", show);
  show(); // a browser may have kept another choice than the first
}
