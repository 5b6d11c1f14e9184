"use strict";
// Sorting: numbers by value, everything else as text; what is unknown comes last.
for (const [index, heading] of [...document.querySelectorAll("#scenes thead th")].entries()) {
  heading.querySelector("button").addEventListener("click", () => {
    const body = document.querySelector("#scenes tbody"), downward = heading.getAttribute("aria-sort") !== "descending";
    const value = (row) => {
      const text = row.children[index].textContent.trim(), number = Number(text);
      return text === "–" ? null : Number.isNaN(number) ? text : number;
    };
    const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    const rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort(([a], [b]) => (a === null) - (b === null) || (downward ? -1 : 1) * (a === null ? 0 : compare(a, b)));
    body.append(...rows.map(([, row]) => row));
    for (const other of heading.parentElement.children) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", downward ? "descending" : "ascending");
  });
}

for (const input of document.querySelectorAll(".compare input")) {
  input.addEventListener("input", () => input.parentElement.style.setProperty("--cut", `${input.value}%`));
}

for (const scene of document.querySelectorAll(".scene")) {
  const buttons = [...scene.querySelectorAll(".tabs button")], views = [...scene.querySelectorAll(".view")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      views.forEach((view, number) => { view.hidden = number !== Number(button.dataset.view); });
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    });
  }
}

// One scene is open at a time: browsers allow few WebGL contexts.
let closeOpen = () => {};
for (const place of document.querySelectorAll(".walk")) {
  const opener = place.querySelector(".open");
  opener.addEventListener("click", async () => {
    if (place.querySelector("canvas")) return closeOpen();
    closeOpen();
    const data = JSON.parse(document.getElementById(place.dataset.splats).textContent);
    const canvas = document.createElement("canvas"), bar = document.createElement("div");
    canvas.style.aspectRatio = `${data.width} / ${data.height}`;
    canvas.style.maxWidth = `calc(80vh * ${data.width} / ${data.height})`;
    canvas.tabIndex = 0;
    canvas.setAttribute("aria-label", "The scene in 3D; arrow keys turn it, plus and minus zoom");
    bar.className = "tabs";
    place.append(canvas, bar);
    opener.textContent = "Close 3D";
    let viewer = null;
    closeOpen = () => {
      viewer?.close();
      canvas.remove();
      bar.remove();
      opener.textContent = "View in 3D";
      closeOpen = () => {};
    };
    try {
      viewer = await splatViewer.open(canvas, data);
    } catch (error) {
      bar.textContent = `The scene cannot be shown here: ${error.message}`;
      canvas.remove();
      return;
    }
    const button = (name, action) => {
      const made = document.createElement("button");
      made.textContent = name;
      made.addEventListener("click", action);
      bar.append(made);
      return made;
    };
    const before = button("before", () => show(false)), after = button("after", () => show(true));
    const show = (refined) => {
      viewer.show(refined);
      before.setAttribute("aria-pressed", String(!refined));
      after.setAttribute("aria-pressed", String(refined));
    };
    show(true);
    button("start view", () => viewer.reset());
    const help = document.createElement("span");
    help.className = "soft";
    help.textContent = "Drag: turn. Shift or right button: move. Wheel, after a click: zoom. Touch: one finger turns, two move and zoom.";
    bar.append(help);
  });
}
