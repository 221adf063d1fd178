"use strict";
// Sends the bytes of a photo to /recognise and draws the response. The photo itself is displayed from memory.
const settings = JSON.parse(document.getElementById("settings").textContent);
const byId = (id) => document.getElementById(id);
let requests = 0; // number of photos sent; only the response to the last one is drawn
let photoUrl = null; // object URL of the displayed photo
let stream = null; // stream of the open camera

function create(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function showError(message) {
  byId("status").textContent = "";
  byId("error").textContent = message;
  byId("error").hidden = !message;
  if (message) {
    document.body.classList.remove("answered");
  }
}

async function recognise(photo) {
  const number = (requests += 1);
  byId("result").hidden = true;
  showError("");
  if (photo.size > settings.max_bytes) {
    showError(`This file is too large. The limit is ${settings.max_bytes / 2 ** 20} MiB.`);
    return;
  }
  byId("status").textContent = "Detecting faces ...";
  let answer;
  try {
    const response = await fetch("recognise", { method: "POST", body: photo });
    answer = await response.json();
  } catch {
    answer = { error: "The server does not respond. Check that the program is still running." };
  }
  if (number !== requests) {
    return;
  }
  if (answer.error) {
    showError(answer.error);
  } else {
    draw(photo, answer);
  }
}

function draw(photo, answer) {
  if (photoUrl) {
    URL.revokeObjectURL(photoUrl);
  }
  photoUrl = URL.createObjectURL(photo);
  byId("photo").hidden = false;
  byId("picture").src = photoUrl;
  byId("photo").querySelectorAll(".box").forEach((box) => box.remove());
  const many = answer.faces.length > 1;
  answer.faces.forEach((face, place) => byId("photo").append(box(face, place, answer, many)));
  byId("faces").replaceChildren(...answer.faces.map((face, place) => card(face, place, many)));
  document.body.classList.add("answered"); // makes the controls smaller, so that the answer needs no scrolling
  byId("result").hidden = false;
  byId("status").textContent = many ? `${answer.faces.length} faces found.` : "1 face found.";
}

function box(face, place, answer, many) {
  const [left, top, width, height] = face.box;
  const frame = create("div", { className: "box", ariaHidden: "true" });
  frame.style.left = `${(100 * left) / answer.width}%`;
  frame.style.top = `${(100 * top) / answer.height}%`;
  frame.style.width = `${(100 * width) / answer.width}%`;
  frame.style.height = `${(100 * height) / answer.height}%`;
  const label = create("span", { textContent: title(face, place, many) });
  // The label lies above the box, or inside at the top edge of the photo, and does not extend beyond the photo.
  label.classList.toggle("inside", top < 0.1 * answer.height);
  label.classList.toggle("right", left + width / 2 > 0.6 * answer.width);
  frame.append(label);
  return frame;
}

function bestClass(face) {
  return face.probabilities.indexOf(Math.max(...face.probabilities));
}

// The predicted expression with its probability, behind the number of the face if there are several.
function title(face, place, many) {
  const best = bestClass(face);
  return `${many ? `${place + 1}: ` : ""}${settings.classes[best]} ${percent(face.probabilities[best])}`;
}

function card(face, place, many) {
  const best = bestClass(face);
  const heading = create("h2", { textContent: `${many ? "Face " : ""}${title(face, place, many)}` });
  const pictures = create("div", { className: "pictures" }, figure(face.seen, "Model input: 48x48 grey pixels"));
  if (face.looked_at) {
    const caption = `Grad-CAM: bright areas are evidence for ${settings.classes[best]}`;
    pictures.append(figure(face.looked_at, caption));
  }
  const bars = create("ul", { className: "bars" }, ...shownClasses(face).map((index) => bar(face.probabilities[index], index, index === best)));
  bars.setAttribute("aria-label", "Probability of each expression");
  return create("article", { className: "face" }, heading, bars, pictures);
}

// The indices of all classes in label order; of many classes, those of the most probable ones, the first of them first.
function shownClasses(face) {
  const indices = face.probabilities.map((_, index) => index);
  if (indices.length <= settings.max_bars) {
    return indices;
  }
  return indices.sort((one, other) => face.probabilities[other] - face.probabilities[one]).slice(0, settings.max_bars);
}

function figure(source, caption) {
  return create("figure", {}, create("img", { src: source, alt: caption }), create("figcaption", { textContent: caption }));
}

function bar(share, index, best) {
  const fill = create("i", {});
  fill.style.width = `${100 * share}%`;
  const colour = settings.colours[index];
  fill.style.setProperty("--colour", colour === "#000000" ? "var(--ink)" : colour);
  const kind = best ? " best" : "";
  return create(
    "li",
    {},
    create("span", { className: `name${kind}`, textContent: settings.classes[index] }),
    create("span", { className: "track", ariaHidden: "true" }, fill),
    create("span", { className: `share${kind}`, textContent: percent(share) }),
  );
}

function percent(share) {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

async function openCamera() {
  showError("");
  byId("camera").disabled = true; // a second click would open a second stream, which nothing closes
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } });
  } catch {
    showError("The camera is not available. Check that one is connected, unused by other programs and allowed for this page.");
    return;
  } finally {
    byId("camera").disabled = false;
  }
  byId("video").srcObject = stream;
  byId("live").hidden = false;
  byId("camera").hidden = true;
  byId("shoot").focus();
}

function closeCamera() {
  const focused = byId("live").contains(document.activeElement); // on an element that is hidden below
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  byId("video").srcObject = null;
  byId("live").hidden = true;
  byId("camera").hidden = false;
  if (focused) {
    byId("camera").focus();
  }
}

function shoot() {
  const video = byId("video");
  if (!video.videoWidth) {
    return; // the camera has not delivered a frame yet
  }
  const canvas = create("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  closeCamera();
  canvas.toBlob(
    (photo) => (photo ? recognise(photo) : showError("The browser could not encode the camera image. Choose a file.")),
    "image/jpeg",
    0.92,
  );
}

function recogniseFirst(files) {
  const photo = [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
  if (photo) {
    recognise(photo);
  }
}

byId("picture").addEventListener("error", () => {
  byId("photo").hidden = true; // without the photo, its boxes would lie on each other
  byId("status").textContent += " This browser cannot display the photo.";
});
byId("file").addEventListener("change", (event) => {
  recogniseFirst(event.target.files);
  event.target.value = ""; // so that choosing the same file again is a change
});
byId("camera").addEventListener("click", openCamera);
byId("shoot").addEventListener("click", shoot);
byId("stop").addEventListener("click", closeCamera);
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
  recogniseFirst(event.dataTransfer.files);
});
addEventListener("paste", (event) => recogniseFirst(event.clipboardData.files));
