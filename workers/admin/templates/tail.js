// Adds new lines to the tail as they come, by server-sent events. A pause closes the connection: nothing is kept for it.
"use strict";

const LINES_MAX = 200;
const section = document.getElementById("tail");
const lines = document.querySelector("#lines tbody");
const following = document.getElementById("following");
const button = document.getElementById("pause");
const missed = document.getElementById("missed");
let after = section.dataset.after;
let missedCount = 0;
let source = null;

function made(name, text, kind) {
  const element = document.createElement(name);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function cell(label, content, kind) {
  const element = made("td", "", kind);
  element.dataset.label = label;
  element.append(content);
  return element;
}

function accountOf(line) {
  const account = made("span", line.account);
  if (line.auth_app_id) account.append(made("small", line.auth_app_id, "block muted"));
  return account;
}

function orderOf(line) {
  if (!line.order) return made("span", "–", "muted");
  const link = made("a", line.order, "mono");
  const merchant = line.auth_app_id ? `?auth_app_id=${encodeURIComponent(line.auth_app_id)}` : "";
  link.href = `/orders/${encodeURIComponent(line.account)}/${encodeURIComponent(line.order)}${merchant}`;
  return link;
}

function outcomeOf(line) {
  const outcome = made("span", "");
  outcome.append(made("span", line.outcome.replaceAll("_", " "), `tag ${line.kind === "refused" ? "refused" : line.outcome}`));
  if (line.reason && line.reason !== line.outcome) outcome.append(" ", made("small", line.reason.replaceAll("_", " "), "muted"));
  if (line.version) outcome.append(" ", made("small", `version ${line.version}`, "muted"));
  return outcome;
}

function rowOf(line) {
  const row = made("tr", "", "new");
  const time = made("time", line.at.slice(11, 23).replace("Z", "").padEnd(9, ".").padEnd(12, "0"));
  time.dateTime = line.at;
  time.title = `${line.at.slice(0, 19).replace("T", " ")} UTC`;
  row.append(
    cell("Time", time, "nowrap"),
    cell("Moment", made("span", line.kind, "step")),
    cell("Account", accountOf(line), "nowrap"),
    cell("Order", orderOf(line)),
    cell("Outcome", outcomeOf(line)),
    cell("Notification", made("span", line.notification_id || "–"), line.notification_id ? "mono" : "mono none"),
  );
  return row;
}

function show(event) {
  after = event.lastEventId;
  for (const row of lines.querySelectorAll(".nothing")) row.remove();
  lines.prepend(rowOf(JSON.parse(event.data)));
  while (lines.children.length > LINES_MAX) lines.lastElementChild.remove();
}

function open() {
  const query = new URLSearchParams(location.search);
  query.set("after", after);
  source = new EventSource(`/api/tail?${query}`);
  following.textContent = "connecting";
  source.addEventListener("open", () => { following.textContent = "following"; });
  source.addEventListener("message", show);
  source.addEventListener("missed", (event) => {
    missedCount += Number(event.data);
    missed.textContent = `${missedCount.toLocaleString("en")} lines were missed, of any account and outcome.`;
    missed.hidden = false;
  });
  source.addEventListener("error", () => {
    following.textContent = "not connected";
    // A browser gives up after an answer other than 200; then it is asked again here.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (button.textContent === "Pause") open(); }, 3000);
  });
}

button.addEventListener("click", () => {
  if (button.textContent === "Pause") {
    source.close();
    button.textContent = "Resume";
    following.textContent = "paused";
  } else {
    button.textContent = "Pause";
    open();
  }
});
document.querySelector(".follow").hidden = false;
open();
