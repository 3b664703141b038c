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
let isFollowing = true;

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
  outcome.append(made("span", w(line.outcome.replaceAll("_", " ")), `tag ${line.kind === "refused" ? "refused" : line.outcome}`));
  if (line.reason && line.reason !== line.outcome) outcome.append(" ", made("small", w(line.reason.replaceAll("_", " ")), "muted"));
  if (line.version) outcome.append(" ", made("small", t("version {version}", { version: line.version }), "muted"));
  return outcome;
}

function rowOf(line) {
  const row = made("tr", "", "new");
  const alipays = new Date(Date.parse(line.at) + 8 * 3600 * 1000).toISOString(); // in UTC+8
  const time = made("time", alipays.slice(11, 23));
  time.dateTime = line.at;
  time.dataset.at = "clock";
  time.title = `${alipays.slice(0, 19).replace("T", " ")} UTC+8`;
  row.append(
    cell(t("Time"), time, "nowrap"),
    cell(t("Moment"), made("span", w(line.kind), "step")),
    cell(t("Account"), accountOf(line), "nowrap"),
    cell(t("Order"), orderOf(line)),
    cell(t("Outcome"), outcomeOf(line)),
    cell(t("Notification"), made("span", line.notification_id || "–"), line.notification_id ? "mono" : "mono none"),
  );
  showZones(row);
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
  following.textContent = t("connecting");
  source.addEventListener("open", () => { following.textContent = t("following"); });
  source.addEventListener("message", show);
  source.addEventListener("missed", (event) => {
    missedCount += Number(event.data);
    missed.textContent = t("{count} lines were missed, of any account and outcome.", { count: missedCount.toLocaleString("en") });
    missed.hidden = false;
  });
  source.addEventListener("error", () => {
    following.textContent = t("not connected");
    // A browser gives up after an answer other than 200; then it is asked again here.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (isFollowing) open(); }, 3000);
  });
}

button.addEventListener("click", () => {
  isFollowing = !isFollowing;
  if (!isFollowing) {
    source.close();
    button.textContent = t("Resume");
    following.textContent = t("paused");
  } else {
    button.textContent = t("Pause");
    open();
  }
});
document.querySelector(".follow").hidden = false;
open();
