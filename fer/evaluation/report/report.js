"use strict";
// Confusion matrix: a click on a cell shows its faces, most confident first.
const data = JSON.parse(document.getElementById("data").textContent);
const heading = document.getElementById("faces-heading");
const shelf = document.getElementById("faces");

function show(button, scroll) {
  const cell = data.cells[button.dataset.cell];
  document.querySelectorAll(".matrix button").forEach((other) => other.setAttribute("aria-pressed", other === button));
  heading.textContent = button.title;
  shelf.replaceChildren();
  for (let place = cell.first; place < cell.first + cell.shown; place += 1) {
    const figure = document.createElement("figure");
    const face = document.createElement("i");
    face.className = "face";
    face.setAttribute("role", "img");
    face.setAttribute("aria-label", button.title + ", row " + data.rows[place]);
    face.title = "row " + data.rows[place] + " of the source";
    face.style.setProperty("--x", place % data.columns);
    face.style.setProperty("--y", Math.floor(place / data.columns));
    const caption = document.createElement("figcaption");
    caption.textContent = data.confidence[place] + " %";
    figure.append(face, caption);
    shelf.append(figure);
  }
  shelf.scrollTop = 0;
  if (scroll) {
    heading.scrollIntoView({ block: "nearest" });
  }
}

document.querySelectorAll(".matrix button:enabled").forEach((button) => {
  button.addEventListener("click", () => show(button, true));
});
const first = document.querySelector(".matrix button[data-opened]");
if (first) {
  show(first, false);
}
