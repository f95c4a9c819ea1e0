"use strict";
(() => {
  const COLOURS = { reference: [255, 255, 255], manual: [90, 169, 255], assisted: [255, 152, 56], mixed: [199, 155, 255] };
  const AXIS_OF_VIEW = { 0: 2, 1: 1, 2: 0, 3: 2 }; // axial, coronal, sagittal, all planes
  const RENDER = 4;

  // Every table as CSV, as it is printed.
  for (const table of document.querySelectorAll("table")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "csv";
    button.textContent = "Save as CSV";
    button.setAttribute("aria-label", `Save as CSV: ${table.caption.textContent.trim()}`);
    button.addEventListener("click", () => save(table));
    table.after(button);
  }

  function save(table) {
    const text_of = (node) => {
      const copy = node.cloneNode(true);
      copy.querySelectorAll("button").forEach((button) => button.remove());
      return copy.textContent;
    };
    const cell = (node) => `"${text_of(node).trim().replace(/\s+/g, " ").replaceAll('"', '""')}"`;
    const row = (node) => [...node.cells].flatMap((c) => [cell(c), ...Array(c.colSpan - 1).fill('""')]).join(",");
    const text = [...table.rows].map(row).join("\r\n") + "\r\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
    link.download = `${table.caption.textContent.trim().slice(0, 40).replace(/[^A-Za-z0-9]+/g, "-")}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // Paper cannot be unfolded.
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((node) => { node.open = true; }));

  const dialog = document.getElementById("viewer");
  if (!dialog) return;
  const [title, status, canvas, view, slice, layers] = ["title", "status", "canvas", "view", "slice", "layers"].map((name) =>
    document.getElementById(`viewer-${name}`));
  let times = null; // voxels of the shown volumes in one of the image's, along each axis
  let shown = null; // the NiiVue instance, once there is one
  let handOver = null; // takes the volumes of the script that is being loaded
  window.segfedCase = (content) => handOver(content);

  const run = (address) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${address} is not beside this page: keep the folder together with it`));
    document.head.append(script);
  });

  async function start() {
    await run(`${dialog.dataset.folder}/niivue.umd.js`);
    const made = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairWidth: 0, isRadiologicalConvention: true, isNearestInterpolation: true,
      dragAndDropEnabled: false, isColorbar: false, loadingText: "", logLevel: "error", show3Dcrosshair: false,
    });
    await made.attachToCanvas(canvas);
    for (const [name, [r, g, b]] of Object.entries(COLOURS))
      made.addColormap(name, { R: [0, r], G: [0, g], B: [0, b], A: [0, 255], I: [0, 255] });
    made.onLocationChange = () => tell();
    return made;
  }

  async function open(button) {
    dialog.dataset.state = "loading";
    title.textContent = button.dataset.title;
    status.textContent = "Loading…";
    if (!dialog.open) dialog.showModal();
    try {
      shown ??= await start();
      const arrived = new Promise((resolve) => { handOver = resolve; });
      await run(button.dataset.case);
      await show(await arrived);
      dialog.dataset.state = "shown";
      slice.focus();
    } catch (error) {
      dialog.dataset.state = "failed";
      status.textContent = `The case cannot be shown: ${error.message}. The pictures on the page show its main slice.`;
    }
  }

  async function show(content) {
    while (shown.volumes.length) shown.removeVolumeByIndex(0);
    const add = async (name, base64, more) =>
      shown.addVolume(await niivue.NVImage.loadFromBase64({ base64, name: `${name}.nii.gz`, ...more }));
    await add("image", content.image, { colormap: "gray", cal_min: 0, cal_max: 255, trustCalMinMax: true });
    layers.replaceChildren();
    for (const [index, [name, base64]] of Object.entries(content.contours).entries()) {
      await add(name, base64, { colormap: name, cal_min: 1, cal_max: 255, trustCalMinMax: true });
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      box.addEventListener("change", () => shown.setOpacity(index + 1, box.checked ? 1 : 0));
      const word = document.createElement("span");
      word.className = `arm ${name}`;
      word.textContent = name;
      label.append(box, " ", word);
      layers.append(label);
    }
    times = content.voxelTimes;
    shown.scene.crosshairPos = content.start;
    change();
  }

  function change() {
    const chosen = Number(view.value);
    // A surface would be hidden in the image around it.
    shown.setOpacity(0, chosen === RENDER ? 0 : 1);
    shown.setSliceType(chosen);
    slice.disabled = chosen === RENDER;
    tell();
  }

  function tell() {
    const axis = AXIS_OF_VIEW[view.value];
    if (axis === undefined || !shown.volumes.length) {
      status.textContent = "Drag to turn.";
      return;
    }
    const count = shown.volumes[0].dimsRAS[axis + 1] / times[axis];
    slice.max = count;
    slice.value = Math.floor(shown.scene.crosshairPos[axis] * count) + 1;
    status.textContent = `Slice ${slice.value} of ${count}`;
  }

  view.addEventListener("change", change);
  slice.addEventListener("input", () => {
    const axis = AXIS_OF_VIEW[view.value];
    shown.scene.crosshairPos[axis] = (Number(slice.value) - 0.5) / Number(slice.max);
    shown.drawScene();
    tell();
  });
  for (const button of document.querySelectorAll("button.open")) {
    button.hidden = false;
    button.addEventListener("click", () => open(button));
    if (location.hash === `#${button.id}`) open(button);
  }
})();
