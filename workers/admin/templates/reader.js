// The page's own texts in its language, and the viewer's time beside Alipay's. The console and the sandbox share this.
"use strict";

// A text in the page's language: the file with the translations, if there is one, comes before this one.
const filled = (text, values = {}) => text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
const t = (text, values) => filled(globalThis.texts?.[text] ?? text, values);
const w = (word) => globalThis.texts?.[word] ?? word;

// A sentence that the program made in English, if its form is known in the page's language; `sentences.py` makes the forms.
const parted = {
  word: (part) => w(part.replaceAll("_", " ")),
  sentence: (part) => said(part),
  either: (part) => part.split(" or ").join(said(" or ")),
};
function said(text) {
  for (const [pattern, parts, pieces] of globalThis.sentences ?? []) {
    const found = new RegExp(`^(?:${pattern})$`, "s").exec(text);
    if (!found) continue;
    const values = Object.fromEntries(parts.map(([name, kind], place) => [name, (parted[kind] ?? String)(found[place + 1])]));
    return pieces.map(([piece, name]) => piece + (name ? values[name] : "")).join("");
  }
  return text;
}

const two = (number) => String(number).padStart(2, "0");

// A viewer's difference to UTC at a moment, such as UTC+2 or UTC-3:30.
function offset(moment) {
  const minutes = -moment.getTimezoneOffset();
  if (!minutes) return "UTC";
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `UTC${minutes < 0 ? "-" : "+"}${hours}${rest ? `:${two(rest)}` : ""}`;
}

const dayOf = (moment) => `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
const clockOf = (moment) => `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}`;

// Adds the viewer's own time to Alipay's, which the server wrote, if the viewer is in another zone.
function showZones(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-zoned])")) {
    const moment = new Date(time.dateTime);
    const here = offset(moment);
    time.dataset.zoned = "";
    if (here === "UTC+8") continue;
    const own = `${dayOf(moment)} ${clockOf(moment)} ${here}`;
    if (time.title) time.title = `${time.title} · ${own}`;
    if (!("at" in time.dataset)) continue;
    const isDayKnown = time.dataset.at === "clock" || time.textContent.includes(dayOf(moment));
    const shown = isDayKnown ? clockOf(moment) : `${dayOf(moment)} ${clockOf(moment)}`;
    const added = document.createElement("small");
    added.className = "own";
    added.textContent = `${shown} ${here}`;
    time.append(" ", added);
  }
}

showZones(document);
if (offset(new Date()) !== "UTC+8" && document.getElementById("zone")) {
  document.getElementById("zone").textContent = t("; beside them is your zone, {zone}", { zone: offset(new Date()) });
}
