"use strict";
// A picture goes to /recognise as its bytes; what comes back is drawn. The picture itself is shown from memory.
const settings = JSON.parse(document.getElementById("settings").textContent);
const at = (id) => document.getElementById(id);
let asked = 0; // of the pictures; an answer to any but the last one is too late
let shown = null; // address in memory of the picture that is shown
let stream = null; // of the camera

function made(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function complain(sentence) {
  at("status").textContent = "";
  at("error").textContent = sentence;
  at("error").hidden = !sentence;
}

async function recognise(picture) {
  const number = (asked += 1);
  at("result").hidden = true;
  complain("");
  if (picture.size > settings.most_bytes) {
    complain(`This file is too large: at most ${settings.most_bytes / 2 ** 20} MiB are read.`);
    return;
  }
  at("status").textContent = "Looking for faces ...";
  let answer;
  try {
    const response = await fetch("recognise", { method: "POST", body: picture });
    answer = await response.json();
  } catch {
    answer = { error: "The program that serves this page does not answer; is it still running?" };
  }
  if (number !== asked) {
    return;
  }
  if (answer.error) {
    complain(answer.error);
  } else {
    draw(picture, answer);
  }
}

function draw(picture, answer) {
  if (shown) {
    URL.revokeObjectURL(shown);
  }
  shown = URL.createObjectURL(picture);
  at("picture").src = shown;
  at("photo").querySelectorAll(".box").forEach((box) => box.remove());
  const many = answer.faces.length > 1;
  answer.faces.forEach((face, place) => at("photo").append(box(face, place, answer, many)));
  at("faces").replaceChildren(...answer.faces.map((face, place) => card(face, place, many)));
  at("result").hidden = false;
  at("status").textContent = many ? `${answer.faces.length} faces were found.` : "One face was found.";
}

function box(face, place, answer, many) {
  const [left, top, width, height] = face.box;
  const frame = made("div", { className: "box", ariaHidden: "true" });
  frame.style.left = `${(100 * left) / answer.width}%`;
  frame.style.top = `${(100 * top) / answer.height}%`;
  frame.style.width = `${(100 * width) / answer.width}%`;
  frame.style.height = `${(100 * height) / answer.height}%`;
  if (many) {
    frame.append(made("span", { textContent: place + 1 }));
  }
  return frame;
}

function card(face, place, many) {
  const best = face.probabilities.indexOf(Math.max(...face.probabilities));
  const name = settings.classes[best];
  const title = `${many ? `Face ${place + 1}: ` : ""}${name}, ${percent(face.probabilities[best])}`;
  const pictures = made("div", { className: "pictures" }, figure(face.seen, "What the network was given: 48 by 48 grey pixels"));
  if (face.looked_at) {
    pictures.append(figure(face.looked_at, `What spoke for ${name}: the brighter, the more (Grad-CAM)`));
  }
  const bars = made("ul", { className: "bars" }, ...face.probabilities.map((share, index) => bar(share, index, index === best)));
  bars.setAttribute("aria-label", "Probability of each expression");
  const parts = made("div", { className: "parts" }, pictures, bars);
  return made("article", { className: "face" }, made("h2", { textContent: title }), parts);
}

function figure(source, said) {
  return made("figure", {}, made("img", { src: source, alt: said }), made("figcaption", { textContent: said }));
}

function bar(share, index, best) {
  const fill = made("i", {});
  fill.style.width = `${100 * share}%`;
  const colour = settings.colours[index];
  fill.style.setProperty("--colour", colour === "#000000" ? "var(--ink)" : colour);
  const kind = best ? " best" : "";
  return made(
    "li",
    {},
    made("span", { className: `name${kind}`, textContent: settings.classes[index] }),
    made("span", { className: "track", ariaHidden: "true" }, fill),
    made("span", { className: `share${kind}`, textContent: percent(share) }),
  );
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

async function openCamera() {
  complain("");
  at("camera").disabled = true; // a second click would open the camera twice, and close it once
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } });
  } catch {
    complain("The camera cannot be used: there is none, another program has it, or the browser may not use it here.");
    return;
  } finally {
    at("camera").disabled = false;
  }
  at("video").srcObject = stream;
  at("live").hidden = false;
  at("camera").hidden = true;
  at("shoot").focus();
}

function closeCamera() {
  const focused = at("live").contains(document.activeElement); // on what is about to be hidden
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  at("video").srcObject = null;
  at("live").hidden = true;
  at("camera").hidden = false;
  if (focused) {
    at("camera").focus();
  }
}

function shoot() {
  const video = at("video");
  if (!video.videoWidth) {
    return; // it has not seen anything yet
  }
  const canvas = made("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  closeCamera();
  canvas.toBlob(recognise, "image/jpeg", 0.92);
}

function firstPicture(files) {
  const picture = [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
  if (picture) {
    recognise(picture);
  }
}

at("file").addEventListener("change", (event) => {
  firstPicture(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
at("camera").addEventListener("click", openCamera);
at("shoot").addEventListener("click", shoot);
at("stop").addEventListener("click", closeCamera);
["dragenter", "dragover"].forEach((name) => {
  addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
});
addEventListener("dragleave", (event) => document.body.classList.toggle("over", Boolean(event.relatedTarget)));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  firstPicture(event.dataTransfer.files);
});
addEventListener("paste", (event) => firstPicture(event.clipboardData.files));
